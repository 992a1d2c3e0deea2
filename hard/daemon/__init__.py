"""What a running daemon consists of, beside the pipeline; app.py puts it together."""
