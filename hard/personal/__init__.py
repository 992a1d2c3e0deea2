"""What is known of one device and its person: recordings, how the phone is worn, a head of its own."""
