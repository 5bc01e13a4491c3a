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
        subscription = self._subscription
        try:
            while subscription.pull_batch(1024, 0):
                came = True
        except events.SubscriptionPruned as error:
            if not came:
                raise SubscriptionPruned(error.capacity) from error
        except events.SubscriptionClosed as error:
            if subscription is not self._subscription:
                return True  # another thread has subscribed anew
            if isinstance(error, StoreClosed):
                raise
            msg = f"its source ended the subscription: {error}"
            raise StoreClosed(msg) from error
        return came

    def check(self) -> None:
        """Nothing is known before the subscription is asked."""

    def put_up(self) -> None:
        """Make the next `take_down` say that something came."""
        self._came = True

    def wait(self, timeout: float | None) -> bool:
        """Block until something came; false when the time is up."""
        subscription = self._subscription
        try:
            came = bool(subscription.pull_batch(1, timeout))
        except (events.SubscriptionPruned, events.SubscriptionClosed):
            return True
        self._came = self._came or came
        return came or subscription is not self._subscription

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
        """Subscribe anew; a call that waits goes on over the new subscription."""
        # In this order, so that it finds the new one when the old one wakes it.
        before, self._subscription = self._subscription, self._subscribe()
        before.close()

    def close(self) -> None:
        """Let nothing more come, and wake all calls that wait."""
        self._subscription.close()
