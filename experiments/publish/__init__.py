"""From finished runs to the pages of `docs/results`, one module for each kind of page."""
