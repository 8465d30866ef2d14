"""Weights in and out of the formats that people have."""
