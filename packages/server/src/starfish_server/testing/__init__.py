"""What others need to test their own stores, and code that stores let down; needs pytest."""
