"""What changes the registry: decisions upon a state, and the group commit that runs them."""

__all__ = ()
