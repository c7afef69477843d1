"""Who of a consumer group reads which partition, and how far the group has come: plain rules, without I/O.

A group's state is one small document; what keeps it (a table, a collection) only has to change it atomically. Members
prove that they live by renewing a lease. Partitions are shared evenly: a member takes free ones up to its share, and
gives up what it holds beyond it; a partition is never taken from a member that lives.

Where partitions end and others continue them (a shard that was split or merged), one is begun only when those that it
continues are finished: read to their end, and committed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

__all__ = ["FINISHED", "GroupState", "Share"]

FINISHED = "finished"
"""The position of a partition that has ended and was read to its end; no driver's position looks like it."""


class Share(msgspec.Struct):
    """One partition, as its group sees it.

    Attributes:
        position: the value of the position that the group committed last; reading goes on after it.
        owner: the member that reads it, or None.
    """

    position: str
    owner: str | None = None

    @property
    def finished(self) -> bool:
        """Whether it has ended, and the group is done with it."""
        return self.position == FINISHED


class GroupState(msgspec.Struct):
    """One consumer group of one stream.

    Attributes:
        members: each live member's id, and when its lease ends, in seconds since the epoch.
        partitions: the share of each partition by its name.
    """

    members: dict[str, float] = msgspec.field(default_factory=dict)
    partitions: dict[str, Share] = msgspec.field(default_factory=dict)

    def add(self, starts: Mapping[str, str]) -> None:
        """Add partitions that the group does not know yet, each with the position it starts after."""
        for name, position in starts.items():
            self.partitions.setdefault(name, Share(position))

    def grow(self, lineage: Mapping[str, Collection[str]]) -> None:
        """Follow partitions that end: forget those that are gone, and begin those whose parents are finished.

        Args:
            lineage: by the name of each partition that there is, those that it continues, gone ones included.
        """
        for name in [name for name in self.partitions if name not in lineage]:
            del self.partitions[name]
        self.add(dict.fromkeys(self.ready(lineage), ""))

    def ready(self, lineage: Mapping[str, Collection[str]]) -> list[str]:
        """Name the partitions that are not begun, and of which everything before them is finished or gone."""
        known = self.partitions
        return [
            name
            for name, parents in lineage.items()
            if name not in known
            and all(parent not in lineage or (parent in known and known[parent].finished) for parent in parents)
        ]

    def finish(self, member: str, names: Collection[str]) -> None:
        """Be done with those of some partitions that a member holds."""
        for name in names:
            share = self.partitions.get(name)
            if share is not None and share.owner == member:
                share.position, share.owner = FINISHED, None

    def renew(self, member: str, now: float, lease: float) -> None:
        """Take a member in, or extend its lease; members whose lease ended are out, and their partitions free."""
        for name, end in list(self.members.items()):
            if end <= now:
                self.leave(name)
            elif end > now + lease:
                # A lease this long was given before the clock was set back.
                self.members[name] = now + lease
        self.members[member] = now + lease

    def leave(self, member: str) -> None:
        """Put a member out; its partitions are free."""
        self.members.pop(member, None)
        for share in self.partitions.values():
            if share.owner == member:
                share.owner = None

    def held(self, member: str) -> list[str]:
        """Give the partitions that a member holds."""
        return [name for name, share in self.partitions.items() if share.owner == member]

    def free(self) -> list[str]:
        """Give the partitions that no member holds."""
        return [name for name, share in self.partitions.items() if share.owner is None and not share.finished]

    def target(self, member: str) -> int:
        """Say how many partitions a member should hold: all the same number, or one more.

        The one more goes to those who hold most already, so that as few as possible change hands.
        """
        holding = dict.fromkeys(self.members, 0)
        for share in self.partitions.values():
            if share.owner in holding:
                holding[share.owner] += 1
        open_ones = sum(not share.finished for share in self.partitions.values())
        fewest, extra = divmod(open_ones, max(1, len(holding)))
        ranked = sorted(holding, key=lambda name: (-holding[name], name))
        return fewest + (member in ranked[:extra])

    def claim(self, member: str) -> None:
        """Give a member free partitions up to its target."""
        for name in self.free()[: max(0, self.target(member) - len(self.held(member)))]:
            self.partitions[name].owner = member

    def release(self, member: str, names: Collection[str]) -> None:
        """Free those of some partitions that a member holds."""
        for name in names:
            if self.partitions[name].owner == member:
                self.partitions[name].owner = None

    def commit(self, member: str, positions: Mapping[str, str]) -> set[str]:
        """Note how far a member has come; gives the partitions that are not its own, which stay as they were."""
        lost = set()
        for name, position in positions.items():
            share = self.partitions.get(name)
            if share is None or share.owner != member:
                lost.add(name)
            else:
                share.position = position
        return lost
