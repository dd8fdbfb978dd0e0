"""The bell: no ring is lost."""

import anyio

from factory.ground.bell import Bell


async def test_a_bell_that_was_rung_before_wakes_the_next_wait_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()

    assert await bell.wait(0.001)
    assert not await bell.wait(0.001)


async def test_nobody_rings_and_the_wait_ends_by_itself() -> None:
    assert not await Bell().wait(0)


async def test_a_ring_wakes_who_waits_for_ever() -> None:
    bell = Bell()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(bell.wait)
            await anyio.lowlevel.checkpoint()
            bell.ring()


async def test_each_ring_between_two_waits_is_heard() -> None:
    bell, heard = Bell(), 0

    with anyio.fail_after(5):
        for _ in range(100):
            bell.ring()
            heard += await bell.wait()

    assert heard == 100


async def test_a_wait_that_is_given_up_does_not_take_the_ring_with_it() -> None:
    bell = Bell()

    with anyio.CancelScope() as scope:
        scope.cancel()
        bell.ring()
        await bell.wait()

    assert await bell.wait(0.001)
