"""The signal: none is lost."""

import anyio

from factory.ground.signal import Signal


async def test_a_signal_that_was_sent_before_wakes_the_next_wait_once() -> None:
    signal = Signal()
    signal.send()
    signal.send()

    assert await signal.wait(0.001)
    assert not await signal.wait(0.001)


async def test_nobody_sends_and_the_wait_ends_by_itself() -> None:
    assert not await Signal().wait(0)


async def test_a_ring_wakes_who_waits_for_ever() -> None:
    signal = Signal()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(signal.wait)
            await anyio.lowlevel.checkpoint()
            signal.send()


async def test_each_ring_between_two_waits_is_heard() -> None:
    signal, heard = Signal(), 0

    with anyio.fail_after(5):
        for _ in range(100):
            signal.send()
            heard += await signal.wait()

    assert heard == 100


async def test_a_wait_that_is_given_up_does_not_take_the_ring_with_it() -> None:
    signal = Signal()

    with anyio.CancelScope() as scope:
        scope.cancel()
        signal.send()
        await signal.wait()

    assert await signal.wait(0.001)
