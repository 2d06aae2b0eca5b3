"""Types of `core/v1` other than the pod's, in the notation of `schema`."""

CORE = """
Namespace: metadata=1:ObjectMeta spec=2:NamespaceSpec status=3:NamespaceStatus
NamespaceSpec: finalizers=1:[str]
NamespaceStatus: phase=1:str conditions=2:[NamespaceCondition@type]
NamespaceCondition: type=1:str status=2:str lastTransitionTime=4:time reason=5:str message=6:str
Node: metadata=1:ObjectMeta spec=2:NodeSpec status=3:NodeStatus
NodeSpec: podCIDR=1:str externalID=2:str providerID=3:str unschedulable=4:bool taints=5:[Taint] configSource=6:any
  podCIDRs=7:[str@]
Taint: key=1:str value=2:str effect=3:str timeAdded=4:time
NodeStatus: capacity=1:{qty} allocatable=2:{qty} phase=3:str conditions=4:[NodeCondition@type]
  addresses=5:[NodeAddress@type] daemonEndpoints=6:NodeDaemonEndpoints nodeInfo=7:NodeSystemInfo
  images=8:[ContainerImage] volumesInUse=9:[str] volumesAttached=10:[AttachedVolume] config=11:any
  runtimeHandlers=12:[NodeRuntimeHandler] features=13:NodeFeatures
NodeCondition: type=1:str status=2:str lastHeartbeatTime=3:time lastTransitionTime=4:time reason=5:str message=6:str
NodeAddress: type=1:str address=2:str
NodeDaemonEndpoints: kubeletEndpoint=1:DaemonEndpoint
DaemonEndpoint: Port=1:int
NodeSystemInfo: machineID=1:str systemUUID=2:str bootID=3:str kernelVersion=4:str osImage=5:str
  containerRuntimeVersion=6:str kubeletVersion=7:str kubeProxyVersion=8:str operatingSystem=9:str
  architecture=10:str
ContainerImage: names=1:[str] sizeBytes=2:int
AttachedVolume: name=1:str devicePath=2:str
NodeRuntimeHandler: name=1:str features=2:any
NodeFeatures: supplementalGroupsPolicy=1:bool?
Service: metadata=1:ObjectMeta spec=2:ServiceSpec status=3:ServiceStatus
ServiceSpec: ports=1:[ServicePort@port,protocol] selector=2:{str}! clusterIP=3:str type=4:str externalIPs=5:[str]
  sessionAffinity=7:str loadBalancerIP=8:str loadBalancerSourceRanges=9:[str] externalName=10:str
  externalTrafficPolicy=11:str healthCheckNodePort=12:int publishNotReadyAddresses=13:bool
  sessionAffinityConfig=14:SessionAffinityConfig ipFamilyPolicy=17:str? clusterIPs=18:[str] ipFamilies=19:[str]
  allocateLoadBalancerNodePorts=20:bool? loadBalancerClass=21:str? internalTrafficPolicy=22:str?
  trafficDistribution=23:str?
ServicePort: name=1:str protocol=2:str port=3:int targetPort=4:ios nodePort=5:int appProtocol=6:str?
SessionAffinityConfig: clientIP=1:ClientIPConfig
ClientIPConfig: timeoutSeconds=1:int?
ServiceStatus: loadBalancer=1:LoadBalancerStatus conditions=2:[Condition@type]
LoadBalancerStatus: ingress=1:[LoadBalancerIngress]
LoadBalancerIngress: ip=1:str hostname=2:str ipMode=3:str? ports=4:any
ConfigMap: metadata=1:ObjectMeta data=2:{str} binaryData=3:{bytes} immutable=4:bool?
Secret: metadata=1:ObjectMeta data=2:{bytes} type=3:str stringData=4:{str} immutable=5:bool?
ServiceAccount: metadata=1:ObjectMeta secrets=2:[ObjectReference@name] imagePullSecrets=3:[LocalObjectReference]
  automountServiceAccountToken=4:bool?
Event: metadata=1:ObjectMeta involvedObject=2:ObjectReference reason=3:str message=4:str source=5:EventSource
  firstTimestamp=6:time lastTimestamp=7:time count=8:int type=9:str eventTime=10:mtime series=11:EventSeries
  action=12:str related=13:ObjectReference reportingComponent=14:str reportingInstance=15:str
EventSeries: count=1:int lastObservedTime=2:mtime
EventSource: component=1:str host=2:str
ObjectReference!: kind=1:str namespace=2:str name=3:str uid=4:str apiVersion=5:str resourceVersion=6:str
  fieldPath=7:str
LocalObjectReference!: name=1:str
Binding: metadata=1:ObjectMeta target=2:ObjectReference
"""
