"""Types of groups of pods, Kubernetes' own and those of the scheduler-plugins project, in the notation of `schema`."""

GROUPS = """
PodGroup: metadata=1:ObjectMeta spec=2:PodGroupSpec status=3:any
PodGroupSpec: podGroupTemplateRef=1:any schedulingPolicy=2:PodGroupSchedulingPolicy
PodGroupSchedulingPolicy: basic=2:any gang=3:GangSchedulingPolicy
GangSchedulingPolicy: minCount=1:int
PluginsPodGroup: metadata=1:ObjectMeta spec=2:PluginsPodGroupSpec status=3:any
PluginsPodGroupSpec: minMember=1:int minResources=2:{qty} scheduleTimeoutSeconds=3:int?
"""
