"""What the two sweeps share: windows cut from the employment panel."""
