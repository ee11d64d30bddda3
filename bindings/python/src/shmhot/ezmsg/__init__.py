"""In place of ezmsg.tools.shmem: the names in `shmem` and `shmem_mirror` are those of the modules there.

    from shmhot.ezmsg.shmem import ShMemCircBuff, ShMemCircBuffSettings   # needs ezmsg: pip install shmhot[ezmsg]
    from shmhot.ezmsg.shmem_mirror import EZShmMirror                     # does not

Each works with the other, and with ezmsg-tools on the other end. docs/python.md says what differs.
"""
