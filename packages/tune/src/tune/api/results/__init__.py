"""What came out of a sweep: `ResultGrid` and `Result`, `ExperimentAnalysis`, from a run or from a directory."""
