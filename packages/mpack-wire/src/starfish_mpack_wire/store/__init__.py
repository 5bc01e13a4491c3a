"""The local store: packs as they came, refs by compare-and-swap, a catalogue that can be made again."""
