"""MakeHuman's hand with fewer vertices, to write files of hands with."""

import heapq

import numpy as np


def decimated(template, vertices: int, border: int):
    """Collapses the shortest edges until so many vertices, and edges at the wrist, are left.

    Returns:
        kept [vertices] indices into the template's, faces [2 * vertices - 2 - border, 3] of these.
    """
    points = template.vertices.astype(np.float64)
    faces = {number: tuple(face) for number, face in enumerate(template.faces.tolist())}
    around = [set() for _ in points]
    for number, face in faces.items():
        for corner in face:
            around[corner].add(number)
    rim = set(template.wrist_loop.tolist())
    heap = []

    def push(vertex):
        for other in {c for face in around[vertex] for c in faces[face]} - {vertex}:
            length = np.linalg.norm(points[vertex] - points[other])
            length *= not {vertex, other} <= rim  # The wrist comes first.
            heapq.heappush(heap, (length, min(vertex, other), max(vertex, other)))

    for vertex in range(len(points)):
        push(vertex)
    left = len(points)
    while left > vertices:
        _, stay, go = heapq.heappop(heap)
        shared = around[stay] & around[go]
        if go in rim:
            stay, go = go, stay
        if not shared or (go in rim and (len(shared) != 1 or len(rim) <= border)):
            continue
        neighbours = [{c for face in around[v] for c in faces[face]} for v in (stay, go)]
        if len(neighbours[0] & neighbours[1]) - 2 != len(shared):
            continue
        for face in list(around[go]):
            corners = faces.pop(face)
            for corner in corners:
                around[corner].discard(face)
            if face not in shared:
                faces[face] = tuple(stay if c == go else c for c in corners)
                for corner in faces[face]:
                    around[corner].add(face)
        rim.discard(go)
        left -= 1
        push(stay)
    kept = np.unique(list(faces.values()))
    result = np.searchsorted(kept, np.array(list(faces.values())))
    return kept, result
