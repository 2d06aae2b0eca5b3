"""Types of the `meta/v1` machinery, the reviews, the Lease and the workload kinds, in the notation of `schema`."""

META = """
ObjectMeta: name=1:str generateName=2:str namespace=3:str selfLink=4:str uid=5:str resourceVersion=6:str
  generation=7:int creationTimestamp=8:time deletionTimestamp=9:time deletionGracePeriodSeconds=10:int?
  labels=11:{str} annotations=12:{str} ownerReferences=13:[OwnerReference@uid] finalizers=14:[str@]
  managedFields=17:[ManagedFieldsEntry]
OwnerReference!: kind=1:str name=3:str uid=4:str apiVersion=5:str controller=6:bool? blockOwnerDeletion=7:bool?
ManagedFieldsEntry: manager=1:str operation=2:str apiVersion=3:str time=4:time fieldsType=6:str fieldsV1=7:any
  subresource=8:str
LabelSelector!: matchLabels=1:{str} matchExpressions=2:[LabelSelectorRequirement]
LabelSelectorRequirement: key=1:str operator=2:str values=3:[str]
Condition: type=1:str status=2:str observedGeneration=3:int lastTransitionTime=4:time reason=5:str message=6:str
DeleteOptions: gracePeriodSeconds=1:int? preconditions=2:Preconditions orphanDependents=3:bool?
  propagationPolicy=4:str? dryRun=5:[str] ignoreStoreReadErrorWithClusterBreakingPotential=6:bool?
Preconditions: uid=1:str? resourceVersion=2:str?
Eviction: metadata=1:ObjectMeta deleteOptions=2:DeleteOptions
Scale: metadata=1:ObjectMeta spec=2:ScaleSpec status=3:ScaleStatus
ScaleSpec: replicas=1:int
ScaleStatus: replicas=1:int selector=2:str
"""

REVIEWS = """
ResourceAttributes: namespace=1:str verb=2:str group=3:str version=4:str resource=5:str subresource=6:str name=7:str
  fieldSelector=8:any labelSelector=9:any
NonResourceAttributes: path=1:str verb=2:str
SelfSubjectAccessReview: metadata=1:ObjectMeta spec=2:SelfSubjectAccessReviewSpec status=3:SubjectAccessReviewStatus
SelfSubjectAccessReviewSpec: resourceAttributes=1:ResourceAttributes nonResourceAttributes=2:NonResourceAttributes
SubjectAccessReview: metadata=1:ObjectMeta spec=2:SubjectAccessReviewSpec status=3:SubjectAccessReviewStatus
SubjectAccessReviewSpec: resourceAttributes=1:ResourceAttributes nonResourceAttributes=2:NonResourceAttributes
  user=3:str groups=4:[str] extra=5:{any} uid=6:str
SubjectAccessReviewStatus: allowed=1:bool reason=2:str evaluationError=3:str denied=4:bool
SelfSubjectRulesReview: metadata=1:ObjectMeta spec=2:SelfSubjectRulesReviewSpec status=3:any
SelfSubjectRulesReviewSpec: namespace=1:str
SelfSubjectReview: metadata=1:ObjectMeta status=2:SelfSubjectReviewStatus
SelfSubjectReviewStatus: userInfo=1:UserInfo
UserInfo: username=1:str uid=2:str groups=3:[str] extra=4:{any}
TokenReview: metadata=1:ObjectMeta spec=2:TokenReviewSpec status=3:TokenReviewStatus
TokenReviewSpec: token=1:str audiences=2:[str]
TokenReviewStatus: authenticated=1:bool user=2:UserInfo error=3:str audiences=4:[str]
"""

WORKLOADS = """
Lease: metadata=1:ObjectMeta spec=2:LeaseSpec
LeaseSpec: holderIdentity=1:str? leaseDurationSeconds=2:int? acquireTime=3:mtime renewTime=4:mtime
  leaseTransitions=5:int? strategy=6:str? preferredHolder=7:str?
PriorityClass: metadata=1:ObjectMeta value=2:int globalDefault=3:bool description=4:str preemptionPolicy=5:str?
Deployment: metadata=1:ObjectMeta spec=2:DeploymentSpec status=3:DeploymentStatus
DeploymentSpec: replicas=1:int? selector=2:LabelSelector template=3:PodTemplateSpec strategy=4:DeploymentStrategy
  minReadySeconds=5:int revisionHistoryLimit=6:int? paused=7:bool progressDeadlineSeconds=9:int?
DeploymentStrategy: type=1:str rollingUpdate=2:RollingUpdateDeployment
RollingUpdateDeployment: maxUnavailable=1:ios maxSurge=2:ios
DeploymentStatus: observedGeneration=1:int replicas=2:int updatedReplicas=3:int availableReplicas=4:int
  unavailableReplicas=5:int conditions=6:[DeploymentCondition@type] readyReplicas=7:int collisionCount=8:int?
DeploymentCondition: type=1:str status=2:str reason=4:str message=5:str lastUpdateTime=6:time
  lastTransitionTime=7:time
ReplicaSet: metadata=1:ObjectMeta spec=2:ReplicaSetSpec status=3:ReplicaSetStatus
ReplicaSetSpec: replicas=1:int? selector=2:LabelSelector template=3:PodTemplateSpec minReadySeconds=4:int
ReplicaSetStatus: replicas=1:int fullyLabeledReplicas=2:int observedGeneration=3:int readyReplicas=4:int
  availableReplicas=5:int conditions=6:[ReplicaSetCondition@type]
ReplicaSetCondition: type=1:str status=2:str lastTransitionTime=3:time reason=4:str message=5:str
Job: metadata=1:ObjectMeta spec=2:JobSpec status=3:JobStatus
JobSpec: parallelism=1:int? completions=2:int? activeDeadlineSeconds=3:int? selector=4:LabelSelector
  manualSelector=5:bool? template=6:PodTemplateSpec backoffLimit=7:int? ttlSecondsAfterFinished=8:int?
  completionMode=9:str? suspend=10:bool? podFailurePolicy=11:any backoffLimitPerIndex=12:int?
  maxFailedIndexes=13:int? podReplacementPolicy=14:str? managedBy=15:str? successPolicy=16:any
JobStatus: conditions=1:[JobCondition@type] startTime=2:time completionTime=3:time active=4:int succeeded=5:int
  failed=6:int completedIndexes=7:str uncountedTerminatedPods=8:any ready=9:int? failedIndexes=10:str?
  terminating=11:int?
JobCondition: type=1:str status=2:str lastProbeTime=3:time lastTransitionTime=4:time reason=5:str message=6:str
EventsEvent: metadata=1:ObjectMeta eventTime=2:mtime series=3:EventSeries reportingController=4:str
  reportingInstance=5:str action=6:str reason=7:str regarding=8:ObjectReference related=9:ObjectReference
  note=10:str type=11:str deprecatedSource=12:EventSource deprecatedFirstTimestamp=13:time
  deprecatedLastTimestamp=14:time deprecatedCount=15:int
"""
