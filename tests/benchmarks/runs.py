"""Fabricated files of runs: nothing is trained."""

import json

import numpy as np

SETS = {
    "qm9": {
        "tasks": "mu alpha eps_HOMO eps_LUMO R2 ZPVE U0 U H G c_v".split(),  # noqa: SIM905
        "metrics": [["MAE"]] * 11,
        "higher_is_better": [[False]] * 11,
    },
    "nyuv2": {
        "tasks": ["segmentation", "depth", "normals"],
        "metrics": [
            ["mIoU", "PAcc"],
            ["AErr", "RErr"],
            ["mean", "median", "<11.25", "<22.5", "<30"],
        ],
        "higher_is_better": [[True, True], [False, False], [False, False, True, True, True]],
    },
    "cityscapes": {
        "tasks": ["segmentation", "depth"],
        "metrics": [["mIoU", "PAcc"], ["AErr", "RErr"]],
        "higher_is_better": [[True, True], [False, False]],
    },
    "office31": {
        "tasks": ["amazon", "dslr", "webcam"],
        "metrics": [["Acc"]] * 3,
        "higher_is_better": [[True]] * 3,
    },
    "officehome": {
        "tasks": ["Art", "Clipart", "Product", "Real_World"],
        "metrics": [["Acc"]] * 4,
        "higher_is_better": [[True]] * 4,
    },
}


def write_run(folder, method, seed, start, test, epochs=2, validation=None, cosines=False):
    """A finished run with these test metrics; validation has the same unless told."""
    tasks = len(test)
    validation = test if validation is None else validation
    epoch = {
        "kind": "epoch",
        "step": 5,
        "losses": [0.5] * tasks,
        "validation": validation,
        "gradient_norms": [1.0] * tasks,
        "cosine_similarity": [[0.5] * tasks] * tasks if cosines else None,
    }
    records = [
        {"kind": "start", "seed": seed, **start},
        *[epoch] * epochs,
        {"kind": "result", "validation": validation, "test": test, "steps_per_second": 4.0},
    ]
    path = folder / f"{method}-seed{seed}.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def metrics(dataset, seed):
    rng = np.random.default_rng(seed)
    return [list(rng.uniform(0.2, 0.9, len(names))) for names in SETS[dataset]["metrics"]]


def write_folder(folder, dataset, methods=("stl", "ew", "db_mtl"), seeds=2, **start):
    """Runs with random metrics; returns those: method -> seeds -> tasks -> metrics."""
    test = {
        method: [metrics(dataset, [k, seed]) for seed in range(seeds)]
        for k, method in enumerate(methods)
    }
    for method, runs in test.items():
        for seed, values in enumerate(runs):
            start_record = {"dataset": dataset, **SETS[dataset], **start}
            write_run(folder, method, seed, start_record, values)
    return test


def delta_p(dataset, values, reference):
    """As in the paper, written out."""
    tasks = zip(values, reference, SETS[dataset]["higher_is_better"], strict=True)
    return np.mean(
        [
            np.mean([(1 if h else -1) * 100 * (v - r) / r for v, r, h in zip(*task, strict=True)])
            for task in tasks
        ]
    )


def deltas(dataset, runs, baselines):
    """Δp of every run against the mean metrics of the baseline's runs."""
    mean = [list(np.mean(own, axis=0)) for own in zip(*baselines, strict=True)]
    return [delta_p(dataset, values, mean) for values in runs]


def write_failure(folder, method, seed, start, step=7):
    """A run that was given up."""
    records = [
        {"kind": "start", "seed": seed, **start},
        {"kind": "failed", "step": step, "epoch": 0, "losses": [None]},
    ]
    path = folder / f"{method}-seed{seed}.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_settings(folder, dataset, network=None, preset="quick", epochs=2):
    """What `compare` writes beside the runs."""
    data = {"network": network} if network else {}
    settings = {"dataset": dataset, "preset": preset, "data": data, "train": {"epochs": epochs}}
    (folder / "config.json").write_text(json.dumps(settings))
