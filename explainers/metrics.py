"""The metrics by name, each in one line that says which way is better.

Apart from the functions (`faithfulness`, `localisation`), so that the command line can list them without numpy.
"""

METRICS = {
    "deletion": "area under the score while parts go, strongest first; lower is better",
    "insertion": "area under the score while parts come, strongest first; higher is better",
    "comprehensiveness": "what the score loses without the evidence; higher is better",
    "sufficiency": "what the score loses with the evidence alone; lower is better",
    "average_increase": "AI: recordings whose evidence alone scores higher, in per cent; higher is better",
    "average_drop": "AD: relative loss of probability with the evidence alone, in per cent; lower is better",
    "average_gain": "AG: relative gain of probability with the evidence alone, in per cent; higher is better",
    "faithfulness_to_filtering": "FF: loss of probability when the evidence is filtered out; higher is better",
    "input_fidelity": "Fid-In: recordings whose evidence alone keeps the top class; higher is better",
    "sparseness": "SPS: Gini index of the map, 0 to 1; higher is better",
    "complexity": "COMP: entropy of the map, in nats; lower is better",
    "infidelity": "squared error of the weights as a forecast of the score without some parts; lower is better",
    "max_sensitivity": "largest relative change of the weights when little else changes; lower is better",
    "top_k_fidelity": "recordings whose k strongest parts alone keep the top class; higher is better",
}

LOCALISATION = {
    "mass_inside": "share of the attribution that lies on the annotated region; higher is better",
    "pointing": "recordings whose strongest cell lies on the annotated region; higher is better",
    "rank_inside": "share of the annotated region that the strongest cells cover; higher is better",
}
