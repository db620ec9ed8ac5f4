"""A simple model of OTP's supervisor, written from the rows of docs/otp-rows.md and from nothing of ours.

Everything happens at once: a process starts and stops as soon as it is told to. A tree of dictionaries and a handful of
recursive functions is all there is: no events, no queue, no generations. What it did is in `trace`: `+a` started,
`!a` failed to start, `~a` declined, `-a` was stopped, `xa` ended by itself.
"""

from __future__ import annotations


class Model:
    """A tree of supervisors. `script`: per label, what its next starts come to: "fail", "ignore", else success."""

    def __init__(self, spec, script):
        self.trace, self.script, self.retries = [], script, []
        self.top = {"spec": spec, "kids": [], "stamps": 0, "up": False, "parent": None, "made": 0}
        self.top["up"] = self.start_supervisor(self.top)

    # --- starting and stopping ---

    def start_supervisor(self, sup):
        spec = sup["spec"]
        sup["kids"], sup["stamps"], sup["up"] = [], 0, True
        if spec.strategy == "simple_one_for_one":
            return True
        sup["kids"] = [new_kid(child, child.id) for child in spec.children]
        for kid in list(sup["kids"]):
            if not self.start(sup, kid):  # row 11
                self.stop_kids(sup)
                sup["up"] = False
                return False
        return True

    def start(self, sup, kid):
        """Start a child; whether it worked. One that declines counts as started (rows 14 to 16)."""
        if kid["type"] == "supervisor":
            kid["sup"] = {"spec": kid["spec"].start, "parent": (sup, kid), "made": 0}
            started = self.start_supervisor(kid["sup"])
            kid["state"] = "up" if started else "down"
            return started
        plan = self.script.get(kid["label"])
        outcome = plan.pop(0) if plan else "ok"
        self.trace.append({"ok": "+", "fail": "!", "ignore": "~"}[outcome] + kid["label"])
        kid["state"] = "up" if outcome == "ok" else "down"
        if outcome == "ignore" and self.forgets(sup, kid):
            sup["kids"].remove(kid)
        return outcome != "fail"

    def forgets(self, sup, kid):
        return kid["spec"].restart == "temporary" or sup["spec"].strategy == "simple_one_for_one"

    def stop(self, kid):
        if kid["state"] == "up":
            if kid["type"] == "supervisor":
                self.stop_kids(kid["sup"])
                kid["sup"]["up"] = False
            else:
                self.trace.append("-" + kid["label"])
        kid["state"] = "down"

    def stop_kids(self, sup):
        dynamic = sup["spec"].strategy == "simple_one_for_one"
        for kid in list(sup["kids"]) if dynamic else list(reversed(sup["kids"])):  # rows 51, 58
            self.stop(kid)

    # --- exits ---

    def exit(self, sup, kid, reason):
        """Let a worker end by itself: "normal", "shutdown" or "error"."""
        self.trace.append("x" + kid["label"])
        self.ended(sup, kid, reason)

    def ended(self, sup, kid, reason):
        kid["state"] = "down"
        restart = kid["spec"].restart
        if restart == "permanent" or (restart == "transient" and reason == "error"):  # rows 21, 22
            if kid["spec"].backoff is None:
                self.restart(sup, kid)
            else:
                self.wait(sup, kid)
            return
        if self.forgets(sup, kid):
            sup["kids"].remove(kid)
        if kid["spec"].significant:  # rows 87 to 89
            others = [each for each in sup["kids"] if each["spec"].significant and each["state"] != "down"]
            if sup["spec"].auto_shutdown == "any_significant" or not others:
                self.finish(sup)

    def wait(self, sup, kid):
        kid["state"] = "retry"
        kid["waits"] = object()
        self.retries.append((sup, kid, kid["waits"]))

    def tick(self):
        """Let the back-offs end that are under way now."""
        due, self.retries = self.retries, []
        for sup, kid, waits in due:
            current = kid["state"] == "retry" and kid["waits"] is waits
            if current and sup["up"] and any(each is kid for each in sup["kids"]):
                self.restart(sup, kid)

    def restart(self, sup, kid):
        while True:
            sup["stamps"] += 1  # rows 36, 37, 39
            if sup["stamps"] > sup["spec"].intensity:
                self.finish(sup)  # row 40
                return
            kids, at = sup["kids"], index_of(sup["kids"], kid)
            strategy = sup["spec"].strategy
            group = kids if strategy == "one_for_all" else kids[at:] if strategy == "rest_for_one" else [kid]
            kid["state"] = "down"
            for other in reversed(list(group)):
                if other is not kid:
                    self.stop(other)
                    if other["spec"].restart == "temporary":  # row 28
                        kids.remove(other)
            group = kids if strategy == "one_for_all" else kids[at:] if strategy == "rest_for_one" else [kid]
            failed = next((other for other in list(group) if not self.start(sup, other)), None)
            if failed is None:
                return
            if failed["spec"].backoff is not None:
                self.wait(sup, failed)
                return
            kid = failed  # rows 44, 45: whoever failed is tried again, by the strategy

    def finish(self, sup):
        """End a supervisor by itself; for its parent that is a shutdown (row 41)."""
        self.stop_kids(sup)
        sup["up"] = False
        if sup["parent"] is not None:
            self.ended(*sup["parent"], "shutdown")

    # --- calls ---

    def call(self, sup, name, argument):
        return getattr(self, name)(sup, argument)

    def start_child(self, sup, spec):
        if sup["spec"].strategy == "simple_one_for_one":
            template = sup["spec"].children[0]
            sup["made"] += 1
            kid = new_kid(template, spec[0])
        else:
            known = find(sup, spec.id)
            if known is not None:
                return "AlreadyStarted" if known["state"] == "up" else "AlreadyPresent"  # rows 63, 64
            kid = new_kid(spec, spec.id)
        sup["kids"].append(kid)
        if self.start(sup, kid):
            return "ok" if kid["state"] == "up" else None
        sup["kids"].remove(kid)  # row 65
        return "StartError"

    def terminate_child(self, sup, which):
        kid = find(sup, which)
        if kid is None:
            return "ChildNotFound"
        self.stop(kid)
        if self.forgets(sup, kid):
            sup["kids"].remove(kid)
        return None

    def restart_child(self, sup, which):
        refused = self.not_stopped(sup, which)
        if refused:
            return refused
        kid = find(sup, which)
        if not self.start(sup, kid):
            return "StartError"
        return "ok" if kid["state"] == "up" else None

    def delete_child(self, sup, which):
        refused = self.not_stopped(sup, which)
        if not refused:
            sup["kids"].remove(find(sup, which))
        return refused

    def not_stopped(self, sup, which):
        if sup["spec"].strategy == "simple_one_for_one":
            return "NotAllowed"  # row 82
        kid = find(sup, which)
        if kid is None:
            return "ChildNotFound"
        return {"up": "ChildRunning", "retry": "ChildRestarting", "down": None}[kid["state"]]

    # --- looking ---

    def picture(self, sup=None):
        """Return the tree as nested lists of (label, state, children)."""
        sup = sup or self.top
        if not sup["up"]:
            return None
        shown = {"up": "running", "down": "stopped", "retry": "restarting"}
        return [
            (kid["label"], shown[kid["state"]],
             self.picture(kid["sup"]) if kid["type"] == "supervisor" and kid["state"] == "up" else None)
            for kid in sup["kids"]
        ]  # fmt: skip

    def counts(self, sup):
        kids = sup["kids"]
        supervisors = sum(kid["type"] == "supervisor" for kid in kids)
        specs = 1 if sup["spec"].strategy == "simple_one_for_one" else len(kids)
        return specs, sum(kid["state"] == "up" for kid in kids), supervisors, len(kids) - supervisors

    def supervisors(self, sup=None, path=()):
        """Return (path, supervisor) of all that are up; a path is the labels from the top."""
        sup = sup or self.top
        found = [(path, sup)] if sup["up"] else []
        for kid in sup["kids"] if sup["up"] else ():
            if kid["type"] == "supervisor" and kid["state"] == "up":
                found += self.supervisors(kid["sup"], (*path, kid["label"]))
        return found


def new_kid(spec, label):
    return {"spec": spec, "label": label, "type": spec.type, "state": "down", "sup": None}


def find(sup, label):
    return next((kid for kid in sup["kids"] if kid["label"] == label), None)


def index_of(kids, kid):
    return next(number for number, each in enumerate(kids) if each is kid)
