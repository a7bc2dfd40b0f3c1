"""Programs for the command line: ``raydp-submit``."""
