"""Runnable experiments; run them from a checkout, as `python -m experiments.<name>`."""
