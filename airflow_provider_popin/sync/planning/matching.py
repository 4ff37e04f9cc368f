"""Leads to seats: the maximum number of them, the best priorities, the earliest slots. Knows only ints.

Leads that may have the same slots are one *group*; a set of slots is an int with a bit per slot, bit 0 the
earliest. Whoever sits in a slot may still be moved to another slot of its group until it is settled.

* :class:`Seating` is who sits where.
* :class:`Admission` seats one lead after another if that is possible beside all seated before, moving them
  about as needed. What it keeps is a greedy basis of a transversal matroid: no other choice has more leads,
  or better ones. Each full slot has a level, a lower bound of the moves from there to a free seat (as in
  push-relabel algorithms). Levels only rise, which bounds the work of all searches together by slots times
  the deepest level. A level that no slot is at cuts off all above it: those slots are full for good and leave
  the graph.
* :class:`Settlement` then gives each lead, for good, the earliest slot that leaves a seat for everybody.
  Slots that a search could not get out of are split off as a cell of their own, since nobody outside will
  ever get in; so searches fail no more often than there are slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Seating:
    """Who sits where and may still move, by group, not by lead.

    :param seats: free seats per slot; a negative number counts as none
    """

    def __init__(self, seats: Sequence[int]) -> None:
        self.room = [max(0, number) for number in seats]
        self.free = sum(1 << slot for slot, number in enumerate(self.room) if number)
        self.masks: list[int] = []
        self.here: list[int] = []
        self.held: list[dict[int, int]] = [{} for _ in seats]
        self.onward = [0] * len(seats)

    def add_group(self, mask: int) -> int:
        """Register a group of leads under the next number. See :meth:`Admission.add_group`."""
        self.masks.append(mask)
        self.here.append(0)
        return len(self.masks) - 1

    def put(self, group: int, slot: int) -> None:
        """Seat one lead of a group in a slot, without a look at the room."""
        held = self.held[slot]
        if group in held:
            held[group] += 1
        else:
            held[group] = 1
            self.here[group] |= 1 << slot
            self.onward[slot] |= self.masks[group]

    def take(self, group: int, slot: int) -> None:
        """Take one lead of a group out of a slot, without a look at the room."""
        held = self.held[slot]
        held[group] -= 1
        if not held[group]:
            del held[group]
            self.here[group] ^= 1 << slot
            onward = 0
            for other in held:
                onward |= self.masks[other]
            self.onward[slot] = onward

    def shift(self, path: Sequence[int]) -> None:
        """Move one lead from each slot of a path to the next one; afterwards the first slot has a place.

        :param path: slots, each of which holds a lead that may have the next
        """
        for slot, following in zip(path[-2::-1], path[:0:-1], strict=True):
            bit = 1 << following
            group = next(group for group in self.held[slot] if self.masks[group] & bit)
            self.take(group, slot)
            self.put(group, following)

    def occupy(self, slot: int) -> None:
        """Count a free seat as taken."""
        self.room[slot] -= 1
        if not self.room[slot]:
            self.free ^= 1 << slot

    def vacate(self, slot: int) -> None:
        """Count a seat as free again."""
        self.room[slot] += 1
        self.free |= 1 << slot


class Admission:
    """Decides, one lead after another, who gets a seat at all.

    :param seating: an empty seating
    """

    def __init__(self, seating: Seating) -> None:
        self.alive = seating.free  # slots from which a free seat may be in reach
        self.closed: list[int] = []  # sets of slots that left the graph together
        self._seating = seating
        self._layers = [seating.free, 0]  # the living slots by level; a free seat is level 0
        self._levels: list[int] = []  # per group, the lowest level that its slots may have

    def add_group(self, mask: int) -> int:
        """Register a group of leads.

        :param mask: the slots that they may have
        :return: the number of the group
        """
        self._levels.append(0)
        return self._seating.add_group(mask)

    def admit(self, group: int) -> bool:
        """Seat one more lead of a group, beside all who have a seat.

        :param group: a number that :meth:`add_group` gave
        :return: whether it got one; when not, no lead of the group ever will
        """
        mask = self._seating.masks[group]
        while mask & self.alive:
            path = self._descend(mask, self._lowest_layer(group, mask))
            if path:
                self._seating.shift(path)
                self._seating.put(group, path[0])
                self._fill(path[-1])
                return True
        return False

    def _lowest_layer(self, group: int, mask: int) -> int:
        level = self._levels[group]
        while not mask & self._layers[level]:
            level += 1
        self._levels[group] = level
        return level

    def _descend(self, mask: int, level: int) -> list[int]:
        """A path from the mask's slots at this level down to a free seat; none if levels were corrected."""
        layers, onward = self._layers, self._seating.onward
        path = [_first(mask & layers[level])]
        while level and path:
            lower = onward[path[-1]] & layers[level - 1]
            if lower:
                path.append(_first(lower))
                level -= 1
            elif self._raise(path[-1], level):
                path.pop()
                level += 1
            else:
                path.clear()
        return path

    def _raise(self, slot: int, level: int) -> bool:
        """Correct the level of a slot that has no way down; False if that cut off everything above."""
        layers, bit = self._layers, 1 << slot
        layers[level] ^= bit
        if not layers[level]:
            cut_off = bit
            for above in range(level + 1, len(layers)):
                cut_off |= layers[above]
                layers[above] = 0
            self._close(cut_off)
            return False
        onward = self._seating.onward[slot]
        for lower in range(level, len(layers)):
            if onward & layers[lower]:
                if lower + 1 == len(layers):
                    layers.append(0)
                layers[lower + 1] |= bit
                return True
        self._close(bit)
        return True

    def _fill(self, slot: int) -> None:
        self._seating.occupy(slot)
        self._layers[0] = self._seating.free
        if not self._seating.free:
            self._close(self.alive)
        elif not self._seating.free >> slot & 1:
            self._layers[1] |= 1 << slot

    def _close(self, slots: int) -> None:
        self.alive &= ~slots
        self.closed.append(slots)


class Settlement:
    """Gives the admitted leads their slots, for good, each the earliest that leaves a seat for everybody.

    :param seating: where the admission seated them
    :param cells: disjoint sets of slots that nobody moves out of or into, together all that have or had seats
    """

    def __init__(self, seating: Seating, cells: Iterable[int]) -> None:
        self._seating = seating
        self._cells: list[int] = []
        self._cell_of = [0] * len(seating.room)
        self._open = 0  # slots with a seat that is not settled yet
        for cell in cells:
            self._add_cell(cell)
            self._open |= cell

    def settle(self, group: int) -> int:
        """Settle one lead of a group.

        :param group: a group with a lead that is not settled
        :return: its slot
        """
        seating = self._seating
        own = seating.here[group]
        while True:
            home = self._cell_of[_first(own)]
            cell = self._cells[home]
            slot = _first(seating.masks[group] & self._open & cell)
            path, reached = self._route(slot, (own | seating.free) & cell, cell)
            if path:
                break
            self._split(home, reached)
        seating.shift(path)
        leaves = path[-1] if own >> path[-1] & 1 else own.bit_length() - 1
        seating.take(group, leaves)
        if leaves != path[-1]:
            seating.occupy(path[-1])
            seating.vacate(leaves)
        if not seating.held[slot] and not seating.room[slot]:
            self._open ^= 1 << slot
        return slot

    def _route(self, start: int, goal: int, cell: int) -> tuple[list[int], int]:
        """The shortest path of moves from a slot into the goal; if there is none, all that can be reached."""
        if goal >> start & 1:
            return [start], 0
        onward = self._seating.onward
        unseen = cell & ~(1 << start)
        # Entries of slots that were reached together: the slots, from which slot, and in which entry that one
        # is.
        came_from: list[tuple[int, int, int]] = [(1 << start, -1, -1)]
        for entry, (bits, _, _) in enumerate(came_from):
            while bits:
                low = bits & -bits
                bits ^= low
                slot = low.bit_length() - 1
                reach = onward[slot]
                if reach & goal:
                    return _trace(came_from, entry, [_first(reach & goal), slot]), 0
                new = reach & unseen
                if new:
                    unseen ^= new
                    came_from.append((new, slot, entry))
        return [], cell & ~unseen

    def _split(self, home: int, part: int) -> None:
        """Make a part of a cell a cell of its own. The smaller side gets the new number: that costs less."""
        rest = self._cells[home] ^ part
        small, large = (part, rest) if part.bit_count() < rest.bit_count() else (rest, part)
        self._cells[home] = large
        self._add_cell(small)

    def _add_cell(self, slots: int) -> None:
        self._cells.append(slots)
        while slots:
            low = slots & -slots
            slots ^= low
            self._cell_of[low.bit_length() - 1] = len(self._cells) - 1


def _first(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def _trace(came_from: Sequence[tuple[int, int, int]], entry: int, backwards: list[int]) -> list[int]:
    while came_from[entry][2] >= 0:
        _, slot, entry = came_from[entry]
        backwards.append(slot)
    return backwards[::-1]
