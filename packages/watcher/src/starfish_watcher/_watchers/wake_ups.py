"""What watchers of a store or of another source sleep on."""

from __future__ import annotations

from collections.abc import Callable

from starfish_protocol import events
from starfish_watcher._delivery.hub import Hub
from starfish_watcher._delivery.subscription import Subscription
from starfish_watcher._delivery.wake_flag import WakeFlag
from starfish_watcher.errors import StoreClosed, SubscriptionPruned

__all__ = ("FlagWakeUp", "SubscriptionWakeUp")


class FlagWakeUp(WakeFlag):
    """A flag in a store's hub: however slow its watcher is, it loses nothing."""

    def __init__(self, hub: Hub, namespace: str | None) -> None:
        super().__init__()
        self._hub = hub
        self._namespace = namespace
        hub.attach(namespace, self)

    def renew(self) -> None:
        """Nothing to do: a flag is never pruned."""

    def close(self) -> None:
        """Let nothing more come."""
        self._hub.detach(self._namespace, self)


class SubscriptionWakeUp:
    """A bounded subscription, of which only matters that something came."""

    def __init__(self, subscribe: Callable[[], events.EventSubscription]) -> None:
        self._subscribe = subscribe
        self._subscription = subscribe()
        self._came = False

    def take_down(self) -> bool:
        """Whether something came since the last call.

        Raises:
            StoreClosed: nothing more comes.
            SubscriptionPruned: something was missed, and a call before this one said that
                something came.
        """
        came, self._came = self._came, False
        try:
            while self._subscription.pull_batch(1024, 0):
                came = True
        except events.SubscriptionPruned as error:
            if not came:
                raise SubscriptionPruned(error.capacity) from error
        return came

    def put_up(self) -> None:
        """Make the next `take_down` say that something came."""
        self._came = True

    def wait(self, timeout: float | None) -> bool:
        """Block until something came; false when the time is up."""
        try:
            came = bool(self._subscription.pull_batch(1, timeout))
        except (events.SubscriptionPruned, StoreClosed):
            return True
        self._came = self._came or came
        return came

    def when_up(self, action: Callable[[], object]) -> None:
        """Call ``action`` once when something came; only a store's own subscription can."""
        self._own().when_up(action)

    def forget(self, action: Callable[[], object]) -> None:
        """Do not call ``action`` any more."""
        self._own().forget(action)

    def _own(self) -> Subscription:
        if not isinstance(self._subscription, Subscription):
            msg = (
                f"{type(self._subscription).__name__} cannot be awaited; watch an AsyncEventSource"
            )
            raise TypeError(msg)
        return self._subscription

    def renew(self) -> None:
        """Subscribe anew."""
        self._subscription.close()
        self._subscription = self._subscribe()

    def close(self) -> None:
        """Let nothing more come, and wake whoever waits."""
        self._subscription.close()
