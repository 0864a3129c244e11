#!/usr/bin/env python3
"""Prints the goldens of tests/unit/test_softmax.c: coefficients that scikit-learn finds for the small problem
that make_toy() there makes. Needs numpy and scikit-learn (1.9 was used)."""
import numpy
from sklearn.linear_model import LogisticRegression

N, WIDTH, CLASSES, C = 60, 5, 3, 2.0


def toy():
    state, x = 12345, numpy.zeros((N, WIDTH))
    for i in range(N):
        for j in range(WIDTH):
            state = (state * 1664525 + 1013904223) % 2**32
            x[i, j] = (state >> 16) % 1000 / 500.0 - 1
    y = numpy.array([0 if row[0] + row[1] > 0.5 else 1 if row[2] > row[3] else 2 for row in x])
    return x.astype(numpy.float32).astype(float), y


x, y = toy()
model = LogisticRegression(C=C, tol=1e-10, max_iter=10000).fit(x, y)
for row, bias in zip(model.coef_, model.intercept_):
    print("    {" + ", ".join(f"{value:.7f}" for value in [*row, bias]) + "},")
