"""What every log must do, as test classes to inherit from.

Supply three fixtures, and inherit from `AppendContract`, `WritingContract`, `DeliveryContract` and
`WatchContract`::

    class OnMyLog:
        @pytest.fixture
        def opener(self, tmp_path):  # each call opens another handle of one storage
            return lambda **options: EventStore(MyLog(tmp_path / "log"), **options)

        @pytest.fixture
        def expression(self, tmp_path):  # the same for another process, or None
            return f"EventStore(MyLog({str(tmp_path / 'log')!r}))"

        @pytest.fixture
        def repetition(self):  # races run once; give it parameters to run them more often
            return 0

    class TestMyLog(OnMyLog, AppendContract): ...
    class TestMyLogWatched(OnMyLog, WatchContract): ...

``opener`` takes the keyword options of `EventStore`. Where ``expression`` is ``None`` the storage
ends with its handle, and what needs a second handle is skipped.
"""

try:
    from starfish_watcher.testing.append_contract import AppendContract
    from starfish_watcher.testing.delivery_contract import DeliveryContract
    from starfish_watcher.testing.watch_contract import WatchContract
    from starfish_watcher.testing.writing_contract import WritingContract
except ImportError as error:
    if error.name is None or error.name.startswith("starfish_"):
        raise
    message = (
        "starfish_watcher.testing needs the extra testing: "
        'pip install --find-links dist "starfish-watcher[testing]"'
    )
    raise ImportError(message) from error

__all__ = ("AppendContract", "DeliveryContract", "WatchContract", "WritingContract")
