"""Imports a route table with the old Python package and its own encoder; called by peers.py.

    peer_import.py MODEL_DIRECTORY ROUTES.json DATABASE THREADS

The package's FastEmbedEncoder is used as it is, pointed at a local copy of the model.
"""

import contextlib
import json
import re
import sys
import time


def main():
    directory, routes_path, database, threads = sys.argv[1:5]
    with open(routes_path, encoding="utf-8") as file:
        routes = json.load(file)
    start = time.perf_counter()
    from fastembed import TextEmbedding
    from synaptoroute import AdaptiveRouter, Route, SQLiteStorage
    from synaptoroute.encoder import FastEmbedEncoder

    class LocalEncoder(FastEmbedEncoder):
        def __init__(self):
            self.model = TextEmbedding("BAAI/bge-small-en-v1.5", specific_model_path=directory,
                                       providers=["CPUExecutionProvider"], threads=int(threads))
            self._dim = 384

    with contextlib.redirect_stdout(sys.stderr):
        router = AdaptiveRouter(encoder=LocalEncoder(), storage=SQLiteStorage(database))
        ready = time.perf_counter()
        for name, utterances in routes.items():
            # The package allows no other characters in a name.
            router.add_route(Route(name=re.sub(r"[^a-zA-Z0-9_-]", "_", name), utterances=utterances))
    done = time.perf_counter()
    print(json.dumps({"seconds": done - start, "seconds_after_loading": done - ready}))


if __name__ == "__main__":
    main()
