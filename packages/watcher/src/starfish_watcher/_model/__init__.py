"""Values: coordinates, kinds, events, regions, receipts. No I/O and no threads here."""
