"""The names that pages give to the values of coordinates."""

NETWORKS = {
    "zoo": "zoo, all snapshots",
    "trained": "zoo, last snapshots",
    "held out": "zoo, held-out trajectories",
    "samples": "samples of the flow",
    "gaussian": "baseline: Gaussian fitted to the zoo",
    "noise": "baseline: zoo + 10% noise",
    "averages": "baseline: averages of two",
    "crossed": "baseline: neurons of two",
}
