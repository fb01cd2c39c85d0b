"""HTTP as all of Serve's processes speak it: uvicorn, guarded by limits."""
