#!/usr/bin/env python3
"""Both ends of the connections of lossy_test.py: what each is to do, and what became of it.

As a program: a server of the lab. usage: lossy_ends.py PORT ADDRESS... ; a JSON line for each
connection that has ended: {"id", "end", "bytes"}.

A connection begins with a line, "ID HOW UP DOWN": so many bytes the client sends after it and so
many the server. HOW:

  client-first   after the exchange the client finishes, then the server
  server-first   the other way round
  client-half    the client finishes at once; the server speaks on for a while
  server-half    the server finishes at once; the client speaks on for a while
  long           a few bytes to and fro, with rests; the client finishes
  client-aborts  after the exchange the client resets
  server-aborts  the server does

An end is "eof" or "reset"; an aborted connection's other side speaks on until it hears of it, or
says that it did not ("unheard").
"""
import asyncio
import errno
import json
import random
import socket
import struct
import sys
import time

HOWS = ("client-first", "server-first", "client-half", "server-half")
ABORTS = ("client-aborts", "server-aborts")
PIECES = 6
ROUNDS = 12  # of a long connection
PAUSE_S = 0.25
UNHEARD_S = 5.0
RESETS = (errno.ECONNRESET, errno.EPIPE)


class End:
    """One end of a connection; what is received is counted, and is what the other side said."""

    def __init__(self, connection):
        self.connection, self.loop = connection, asyncio.get_running_loop()
        self.received = 0

    async def say(self, count):
        if count:
            await self.loop.sock_sendall(self.connection, b"x" * count)

    async def say_slowly(self, count):
        for i in range(PIECES):
            await self.say(count * (i + 1) // PIECES - count * i // PIECES)
            await asyncio.sleep(PAUSE_S)

    async def hear(self, count):
        """So many bytes; EOFError when there are fewer."""
        while count > 0:
            some = await self.loop.sock_recv(self.connection, min(count, 65536))
            if not some:
                raise EOFError
            self.received += len(some)
            count -= len(some)

    async def hear_all(self):
        while some := await self.loop.sock_recv(self.connection, 65536):
            self.received += len(some)

    async def line(self):
        text = b""
        while not text.endswith(b"\n"):
            one = await self.loop.sock_recv(self.connection, 1)
            if not one:
                raise EOFError
            text += one
        return text.decode()

    def finish(self):
        self.connection.shutdown(socket.SHUT_WR)

    def abort(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def speak_on(self):
        """Until the other side's reset is heard; "unheard" when it is not."""
        end = time.monotonic() + UNHEARD_S
        while time.monotonic() < end:
            await self.say(1)
            await asyncio.sleep(PAUSE_S / 2)
        return "unheard"


async def serve(end, how, up, down):
    """The server's part, after the line; how it ended."""
    if how == "client-half":
        await end.hear_all()
        await end.say_slowly(down)
        return "eof"
    if how == "server-half":
        end.finish()
        await end.hear_all()
        return "eof"
    if how == "long":
        for _ in range(ROUNDS):
            await end.hear(up // ROUNDS)
            await end.say(down // ROUNDS)
        await end.hear_all()
        return "eof"
    await end.hear(up)
    await end.say(down)
    if how == "server-aborts":
        await end.hear(1)  # the client has everything
        end.abort()
        return "reset"
    if how == "client-aborts":
        return await end.speak_on()
    if how == "server-first":
        end.finish()
    await end.hear_all()
    return "eof"


async def call(end, one, how, up, down):
    """The client's part; how it ended."""
    await end.loop.sock_sendall(end.connection, f"{one} {how} {up} {down}\n".encode())
    if how == "client-half":
        await end.say(up)
        end.finish()
        await end.hear_all()
        return "eof"
    if how == "server-half":
        await end.hear_all()
        await end.say_slowly(up)
        return "eof"
    if how == "long":
        for _ in range(ROUNDS):
            await end.say(up // ROUNDS)
            await end.hear(down // ROUNDS)
            await asyncio.sleep(random.uniform(0, 2 * PAUSE_S))
        end.finish()
        await end.hear_all()
        return "eof"
    await end.say(up)
    await end.hear(down)
    if how == "client-aborts":
        end.abort()
        return "reset"
    if how == "server-aborts":
        await end.say(1)
        return await end.speak_on()
    if how == "client-first":
        end.finish()
    await end.hear_all()
    return "eof"


async def outcome(connection, part):
    """part(End): a coroutine of its end. (how it ended, bytes received); closes the connection."""
    end = End(connection)
    try:
        how = await part(end)
    except EOFError:
        how = "early eof"
    except OSError as error:
        how = "reset" if error.errno in RESETS else f"{error}"
    finally:
        connection.close()
    return how, end.received


async def connect(client, target, port, from_port=0, patience_s=30):
    """A connected socket. from_port: the client's, waited for while its last connection has it."""
    loop, end = asyncio.get_running_loop(), time.monotonic() + patience_s
    while True:
        connection = socket.socket(socket.AF_INET6 if ":" in client else socket.AF_INET)
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            connection.bind((client, from_port))
            await loop.sock_connect(connection, (target, port))
            return connection
        except OSError as error:
            connection.close()
            taken = error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL)
            if not taken or time.monotonic() > end:
                raise
        await asyncio.sleep(0.02)


async def accept_one(connection):
    said = {}

    async def part(end):
        said["id"], how, up, down = (await end.line()).split()
        return await serve(end, how, int(up), int(down))
    end, received = await outcome(connection, part)
    print(json.dumps({"id": said.get("id"), "end": end, "bytes": received}), flush=True)


async def main(port, addresses):
    tasks, loop = set(), asyncio.get_running_loop()

    async def accept_all(listener):
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setblocking(False)
            task = asyncio.create_task(accept_one(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    listeners = []
    for address in addresses:
        listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(512)
        listener.setblocking(False)
        listeners.append(accept_all(listener))
    await asyncio.gather(*listeners)


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
    except KeyboardInterrupt:
        pass
