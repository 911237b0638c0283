"""What all entries share in Home Assistant: errors, repair issues, notifications, storage and shared state."""
