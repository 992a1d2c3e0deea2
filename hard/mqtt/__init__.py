"""The connection to a broker, piece by piece; broker.py puts them together."""
