"""Views over the events of all entities, in tables that know how far they are."""
