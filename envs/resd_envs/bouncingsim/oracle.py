"""Programs that solve a scene; for checkers, tests, benchmarks and feedback of level 5."""

from __future__ import annotations

from collections.abc import Sequence

from resd_envs.bouncingsim.scenes import Room
from resd_envs.bouncingsim.world import Positions, Scene

_CONTACTS = """\
def predict_position(t):
    from math import cos, sin, pi
    cx, cy, R, n = {box}
    # side count, radius, position, velocity
    B = [{balls}]
    def corners(m, r, a=0):
        return [(r*cos(a+2*pi*k/m), r*sin(a+2*pi*k/m)) for k in range(m)]
    def reach(s, x, y):
        return max(a*x + b*y for a, b in s)
    S = [corners(b[0], b[1]) for b in B]
    M = [b[0]*b[1]**2*sin(2*pi/b[0]) for b in B]
    P = [[b[2], b[3]] for b in B]
    V = [[b[4], b[5]] for b in B]
    W = [[(x, y, R*cos(pi/n)+x*cx+y*cy-reach(s, x, y)) for x, y in corners(n, 1, pi/n)] for s in S]
    N = []
    for j in range(len(B)):
        for i in range(j):
            m = [(-x, -y) for x, y in S[j]]
            e = corners(B[i][0], 1, pi/B[i][0])
            e += [(-x, -y) for x, y in corners(B[j][0], 1, pi/B[j][0])]
            N.append((i, j, [(x, y, reach(S[i], x, y)+reach(m, x, y)) for x, y in e]))
    while True:
        best, hit = t, None
        for i, (p, v) in enumerate(zip(P, V)):
            for x, y, d in W[i]:
                s = v[0]*x + v[1]*y
                if s > 1e-9 and (d-p[0]*x-p[1]*y)/s < best:
                    best, hit = max(0, (d-p[0]*x-p[1]*y)/s), (i, i, x, y)
        for i, j, e in N:
            q, r = P[i], P[j]
            a, b = V[j][0]-V[i][0], V[j][1]-V[i][1]
            lo, hi = -1, 9e9
            for x, y, d in e:
                g, s = (r[0]-q[0])*x+(r[1]-q[1])*y-d, a*x+b*y
                if s < -1e-9:
                    if -g/s > lo: lo, c = -g/s, (i, j, x, y)
                elif g > 0: lo = 9e9
                elif s > 1e-9: hi = min(hi, -g/s)
            if -1e-9 < lo < min(hi, best): best, hit = max(0, lo), c
        for p, v in zip(P, V):
            p[0] += v[0]*best
            p[1] += v[1]*best
        t -= best
        if hit is None:
            return [[round(x, 2)+0.0, round(y, 2)+0.0] for x, y in P]
        i, j, x, y = hit
        s = V[i][0]*x + V[i][1]*y - (V[j][0]*x + V[j][1]*y) * (i != j)
        f = 2*s if i == j else 2*s*M[j]/(M[i]+M[j])
        V[i] = [V[i][0]-f*x, V[i][1]-f*y]
        if i != j:
            f = 2*s*M[i]/(M[i]+M[j])
            V[j] = [V[j][0]+f*x, V[j][1]+f*y]
"""

_TABLE = """\
def predict_position(t):
    return {{
{rows}
    }}[round(t, 2)]"""

ROOM = """\
def predict_position(t):
    x, y, u, v = {x}, {y}, {u}, {v}
    for i in range(round(t * 200)):
        x += u / 200
        y += v / 200
        v -= {gravity} / 200
        if x < {radius}:
            u = abs(u)
        if x > {width} - {radius}:
            u = -abs(u)
        if y < {radius}:
            v = abs(v)
        if y > {width} - {radius}:
            v = -abs(v)
    return [[x, y]]"""


def solution(times: Sequence[float], right: Positions) -> str:
    """A program that looks up the positions at the tested times."""
    rows = [
        f"{t:g}: [{', '.join(f'[{x:g}, {y:g}]' for x, y in row)}],"
        for t, row in zip(times, right, strict=True)
    ]
    return _TABLE.format(rows="\n".join(rows))


def room_solution(room: Room) -> str:
    """A short time-stepping program for a room; within a few metres of the exact positions."""
    names = ("width", "radius", "gravity", "x", "y", "u", "v")
    return ROOM.format(**dict(zip(names, room.numbers, strict=True)))


def contacts_program(scene: Scene) -> str:
    """A program of exact contacts for one still container without gravity.

    Balls must not rotate or be circles; other features of a scene are ignored.
    """
    box = scene["boxes"][0]
    (x, y), balls = box["center"], scene["balls"]
    rows = [[b["sides"], b["radius"], *b["position"], *b["velocity"]] for b in balls]
    words = ", ".join(f"({', '.join(f'{value:g}' for value in row)})" for row in rows)
    return _CONTACTS.format(box=f"{x}, {y}, {box['diameter'] / 2:g}, {box['sides']}", balls=words)
