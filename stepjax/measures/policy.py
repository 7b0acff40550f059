"""The figures of a policy's responses: their names in files, their words and units for people."""

POLICY_MEASURES = (
    ("accuracy", "Right answers", "share", 1),
    ("trace_error", "Right answers with a wrong step (trace error)", "share", -1),
    ("good", "Good steps", "share", 1),
    ("neutral", "Neutral steps", "share", 0),
    ("bad", "Bad steps", "share", -1),
    ("holds", "Calculations that hold", "share", 1),
    ("calculation", "Steps with a calculation", "share", 0),
    ("trivial", "Trivial calculations, <<1=1>>", "share", -1),
    ("repeated", "Repeated steps", "share", -1),
    ("recovery", "False registers that are put right", "share", 1),
    ("false_repairs", "True registers that are taken back", "share", -1),
    ("tries", "Statements taken back, a response", "", 0),
    ("dead_ends", "Dead ends that are entered", "share", 0),
    ("dead_ends_left", "Entered dead ends that are left", "share", 1),
    ("tags_whole", "Responses whole in their tags", "share", 1),
    ("claimed", "Responses that score themselves 0.8 or more", "share", 0),
    ("claimed_right", "Right answers among these", "share", 1),
    ("self_auc", "AUC of own scores, right against wrong", "", 1),
    ("environment/reward", "Reward of the environment, a response", "", 1),
    ("environment/answered", "Turns that it answered, a response", "", 0),
    ("limit_kept", "Stated step limits kept", "share", 1),
    ("steps", "Steps a response", "", 0),
    ("tokens", "Tokens a response", "", 0),
    ("truncated", "Responses cut off at the limit", "share", -1),
)
"""Name, words, unit ("share": of 1; "": a number), and which way is better (0: neither)."""
