"""What several tests share: servers and services to start, records to send, ways to wait and to read."""
