"""The Cedar schema: who may ask, for what, and about which resources. Policies are checked against it when loaded.

Principals are Sui addresses and nodes, each in the tier that its stake reaches and in every lower one; stake is in
whole SUI, since the supply in MIST does not fit Cedar's 64-bit Long. Actions are the verbs of the Kubernetes API,
grouped into `read` and `write`. Resources are classes (API group, resource, subresource, namespace), never single
objects, so that one evaluation serves a whole class; `Path` is for URLs outside the resource API.
"""

from typing import Final

#: The language the policies are written in; part of every policy set's digest.
LANGUAGE: Final = "cedar/4"
NAMESPACE: Final = "K3s"

READ_VERBS: Final = ("get", "list", "watch")
WRITE_VERBS: Final = ("create", "update", "patch", "delete", "deletecollection")
#: Verbs that Kubernetes gives meaning to outside of reading and writing.
SPECIAL_VERBS: Final = ("approve", "bind", "escalate", "impersonate", "proxy", "sign", "use")
#: Verbs of URLs outside the resource API; `get`, `patch` and `delete` are shared with resources.
PATH_VERBS: Final = ("get", "head", "post", "put", "patch", "delete", "options")
VERBS: Final = frozenset((*READ_VERBS, *WRITE_VERBS, *SPECIAL_VERBS))


def _actions() -> str:
    on_resources = "principal: [Address, Node], resource: [Resource], context: Moment"
    on_both = "principal: [Address, Node], resource: [Resource, Path], context: Moment"
    on_paths = "principal: [Address, Node], resource: [Path], context: Moment"
    lines = []
    for group, verbs in (("read", READ_VERBS), ("write", WRITE_VERBS)):
        for verb in verbs:
            where = on_both if verb in PATH_VERBS else on_resources
            lines.append(f'  action "{verb}" in [Action::"{group}"] appliesTo {{ {where} }};')
    lines += [f'  action "{verb}" appliesTo {{ {on_resources} }};' for verb in SPECIAL_VERBS]
    for verb in PATH_VERBS:
        if verb not in VERBS:
            group = "read" if verb in {"head", "options"} else "write"
            lines.append(f'  action "{verb}" in [Action::"{group}"] appliesTo {{ {on_paths} }};')
    return "\n".join(lines)


#: `minute` counts from 1970, `minuteOfDay` 0..1439 and `weekday` 0..6 from Monday, all UTC and of the log's time.
SCHEMA: Final = f"""namespace {NAMESPACE} {{
  type Moment = {{ minute: Long, minuteOfDay: Long, weekday: Long }};
  entity Tier in [Tier];
  entity Namespace;
  entity Address in [Tier] = {{ stake: Long, node?: String }};
  entity Node in [Tier] = {{ stake: Long, operator?: Address }};
  entity Resource in [Namespace] = {{
    apiGroup: String, resource: String, subresource: String, namespace: String, sealPolicy?: String
  }};
  entity Path = {{ path: String }};
  action "read";
  action "write";
{_actions()}
}}
"""
