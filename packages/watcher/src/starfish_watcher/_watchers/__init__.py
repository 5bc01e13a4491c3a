"""Wait for newer states."""
