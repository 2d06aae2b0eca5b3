"""Types of claims, volumes, storage classes, CSI nodes and disruption budgets, in the notation of `schema`."""

STORAGE = """
PersistentVolumeClaim: metadata=1:ObjectMeta spec=2:PersistentVolumeClaimSpec status=3:PersistentVolumeClaimStatus
PersistentVolumeClaimSpec: accessModes=1:[str] resources=2:VolumeResourceRequirements volumeName=3:str
  selector=4:LabelSelector storageClassName=5:str? volumeMode=6:str? dataSource=7:any dataSourceRef=8:any
  volumeAttributesClassName=9:str?
VolumeResourceRequirements: limits=1:{qty} requests=2:{qty}
PersistentVolumeClaimStatus: phase=1:str accessModes=2:[str] capacity=3:{qty}
  conditions=4:[PersistentVolumeClaimCondition@type] allocatedResources=5:{qty} allocatedResourceStatuses=7:{str}!
  currentVolumeAttributesClassName=8:str? modifyVolumeStatus=9:any
PersistentVolumeClaimCondition: type=1:str status=2:str lastProbeTime=3:time lastTransitionTime=4:time reason=5:str
  message=6:str
PersistentVolume: metadata=1:ObjectMeta spec=2:PersistentVolumeSpec status=3:PersistentVolumeStatus
PersistentVolumeSpec: capacity=1:{qty} ~=2:PersistentVolumeSource accessModes=3:[str] claimRef=4:ObjectReference
  persistentVolumeReclaimPolicy=5:str storageClassName=6:str mountOptions=7:[str] volumeMode=8:str?
  nodeAffinity=9:VolumeNodeAffinity volumeAttributesClassName=10:str?
PersistentVolumeSource: hostPath=3:any nfs=5:any iscsi=7:any local=20:any csi=22:CSIPersistentVolumeSource
CSIPersistentVolumeSource: driver=1:str volumeHandle=2:str readOnly=3:bool fsType=4:str volumeAttributes=5:{str}
VolumeNodeAffinity: required=1:NodeSelector
PersistentVolumeStatus: phase=1:str message=2:str reason=3:str lastPhaseTransitionTime=4:time
StorageClass: metadata=1:ObjectMeta provisioner=2:str parameters=3:{str} reclaimPolicy=4:str? mountOptions=5:[str]
  allowVolumeExpansion=6:bool? volumeBindingMode=7:str? allowedTopologies=8:[TopologySelectorTerm]
TopologySelectorTerm!: matchLabelExpressions=1:[TopologySelectorLabelRequirement]
TopologySelectorLabelRequirement: key=1:str values=2:[str]
CSINode: metadata=1:ObjectMeta spec=2:CSINodeSpec
CSINodeSpec: drivers=1:[CSINodeDriver@name]
CSINodeDriver: name=1:str nodeID=2:str topologyKeys=3:[str] allocatable=4:VolumeNodeResources
VolumeNodeResources: count=1:int?
PodDisruptionBudget: metadata=1:ObjectMeta spec=2:PodDisruptionBudgetSpec status=3:PodDisruptionBudgetStatus
PodDisruptionBudgetSpec: minAvailable=1:ios selector=2:LabelSelector maxUnavailable=3:ios
  unhealthyPodEvictionPolicy=4:str?
PodDisruptionBudgetStatus: observedGeneration=1:int disruptedPods=2:{time} disruptionsAllowed=3:int
  currentHealthy=4:int desiredHealthy=5:int expectedPods=6:int conditions=7:[Condition@type]
"""
