"""Networks as plain modules, for training and export; the daemon runs only their exported form."""
