"""What is searched for drafts: store protocol and manifest, projection, replica, suffix store, circuit breaker."""
