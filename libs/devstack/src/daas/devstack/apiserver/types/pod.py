"""Types of the pod and its template, in the notation of `schema`."""

POD = """
Pod: metadata=1:ObjectMeta spec=2:PodSpec status=3:PodStatus
PodTemplateSpec: metadata=1:ObjectMeta spec=2:PodSpec
PodSpec: volumes=1:[Volume@name] containers=2:[Container@name] restartPolicy=3:str
  terminationGracePeriodSeconds=4:int? activeDeadlineSeconds=5:int? dnsPolicy=6:str nodeSelector=7:{str}!
  serviceAccountName=8:str serviceAccount=9:str nodeName=10:str hostNetwork=11:bool hostPID=12:bool hostIPC=13:bool
  securityContext=14:PodSecurityContext imagePullSecrets=15:[LocalObjectReference@name] hostname=16:str
  subdomain=17:str affinity=18:Affinity schedulerName=19:str initContainers=20:[Container@name]
  automountServiceAccountToken=21:bool? tolerations=22:[Toleration] hostAliases=23:[HostAlias@ip]
  priorityClassName=24:str priority=25:int? dnsConfig=26:PodDNSConfig shareProcessNamespace=27:bool?
  readinessGates=28:[PodReadinessGate] runtimeClassName=29:str? enableServiceLinks=30:bool? preemptionPolicy=31:str?
  overhead=32:{qty} topologySpreadConstraints=33:[TopologySpreadConstraint@topologyKey,whenUnsatisfiable]
  ephemeralContainers=34:[EphemeralContainer@name] setHostnameAsFQDN=35:bool? os=36:PodOS hostUsers=37:bool?
  schedulingGates=38:[PodSchedulingGate@name] resourceClaims=39:[PodResourceClaim@name]
  resources=40:ResourceRequirements
PodStatus: phase=1:str conditions=2:[PodCondition@type] message=3:str reason=4:str hostIP=5:str podIP=6:str
  startTime=7:time containerStatuses=8:[ContainerStatus] qosClass=9:str initContainerStatuses=10:[ContainerStatus]
  nominatedNodeName=11:str podIPs=12:[PodIP@ip] ephemeralContainerStatuses=13:[ContainerStatus] resize=14:str
  resourceClaimStatuses=15:any hostIPs=16:[HostIP]
PodCondition: type=1:str status=2:str lastProbeTime=3:time lastTransitionTime=4:time reason=5:str message=6:str
PodIP: ip=1:str
HostIP: ip=1:str
PodOS: name=1:str
PodReadinessGate: conditionType=1:str
PodSchedulingGate: name=1:str
PodResourceClaim: name=1:str resourceClaimName=3:str? resourceClaimTemplateName=4:str?
HostAlias: ip=1:str hostnames=2:[str]
PodDNSConfig: nameservers=1:[str] searches=2:[str] options=3:[PodDNSConfigOption]
PodDNSConfigOption: name=1:str value=2:str?
PodSecurityContext: seLinuxOptions=1:SELinuxOptions runAsUser=2:int? runAsNonRoot=3:bool? supplementalGroups=4:[int]
  fsGroup=5:int? runAsGroup=6:int? sysctls=7:[Sysctl] windowsOptions=8:any fsGroupChangePolicy=9:str?
  seccompProfile=10:SeccompProfile appArmorProfile=11:AppArmorProfile supplementalGroupsPolicy=12:str?
  seLinuxChangePolicy=13:str?
SELinuxOptions: user=1:str role=2:str type=3:str level=4:str
SeccompProfile: type=1:str localhostProfile=2:str?
AppArmorProfile: type=1:str localhostProfile=2:str?
Sysctl: name=1:str value=2:str
Container: name=1:str image=2:str command=3:[str] args=4:[str] workingDir=5:str
  ports=6:[ContainerPort@containerPort,protocol] env=7:[EnvVar@name] resources=8:ResourceRequirements
  volumeMounts=9:[VolumeMount@mountPath] livenessProbe=10:Probe readinessProbe=11:Probe lifecycle=12:Lifecycle
  terminationMessagePath=13:str imagePullPolicy=14:str securityContext=15:SecurityContext stdin=16:bool
  stdinOnce=17:bool tty=18:bool envFrom=19:[EnvFromSource] terminationMessagePolicy=20:str
  volumeDevices=21:[VolumeDevice@devicePath] startupProbe=22:Probe resizePolicy=23:[ContainerResizePolicy]
  restartPolicy=24:str?
EphemeralContainer: ~=1:Container targetContainerName=2:str
ContainerPort: name=1:str hostPort=2:int containerPort=3:int protocol=4:str hostIP=5:str
ContainerResizePolicy: resourceName=1:str restartPolicy=2:str
ResourceRequirements: limits=1:{qty} requests=2:{qty} claims=3:[ResourceClaim@name]
ResourceClaim: name=1:str request=2:str
EnvVar: name=1:str value=2:str valueFrom=3:EnvVarSource
EnvVarSource: fieldRef=1:ObjectFieldSelector resourceFieldRef=2:ResourceFieldSelector
  configMapKeyRef=3:ConfigMapKeySelector secretKeyRef=4:SecretKeySelector
ObjectFieldSelector!: apiVersion=1:str fieldPath=2:str
ResourceFieldSelector!: containerName=1:str resource=2:str divisor=3:qty
ConfigMapKeySelector!: ~=1:LocalObjectReference key=2:str optional=3:bool?
SecretKeySelector!: ~=1:LocalObjectReference key=2:str optional=3:bool?
EnvFromSource: prefix=1:str configMapRef=2:ConfigMapEnvSource secretRef=3:SecretEnvSource
ConfigMapEnvSource: ~=1:LocalObjectReference optional=2:bool?
SecretEnvSource: ~=1:LocalObjectReference optional=2:bool?
VolumeMount: name=1:str readOnly=2:bool mountPath=3:str subPath=4:str mountPropagation=5:str? subPathExpr=6:str
  recursiveReadOnly=7:str?
VolumeDevice: name=1:str devicePath=2:str
Probe: ~=1:ProbeHandler initialDelaySeconds=2:int timeoutSeconds=3:int periodSeconds=4:int successThreshold=5:int
  failureThreshold=6:int terminationGracePeriodSeconds=7:int?
ProbeHandler: exec=1:ExecAction httpGet=2:HTTPGetAction tcpSocket=3:TCPSocketAction grpc=4:GRPCAction
ExecAction: command=1:[str]
HTTPGetAction: path=1:str port=2:ios host=3:str scheme=4:str httpHeaders=5:[HTTPHeader]
HTTPHeader: name=1:str value=2:str
TCPSocketAction: port=1:ios host=2:str
GRPCAction: port=1:int service=2:str?
SleepAction: seconds=1:int
Lifecycle: postStart=1:LifecycleHandler preStop=2:LifecycleHandler
LifecycleHandler: exec=1:ExecAction httpGet=2:HTTPGetAction tcpSocket=3:TCPSocketAction sleep=4:SleepAction
SecurityContext: capabilities=1:Capabilities privileged=2:bool? seLinuxOptions=3:SELinuxOptions runAsUser=4:int?
  runAsNonRoot=5:bool? readOnlyRootFilesystem=6:bool? allowPrivilegeEscalation=7:bool? runAsGroup=8:int?
  procMount=9:str? windowsOptions=10:any seccompProfile=11:SeccompProfile appArmorProfile=12:AppArmorProfile
Capabilities: add=1:[str] drop=2:[str]
ContainerStatus: name=1:str state=2:ContainerState lastState=3:ContainerState ready=4:bool restartCount=5:int
  image=6:str imageID=7:str containerID=8:str started=9:bool? allocatedResources=10:{qty}
  resources=11:ResourceRequirements volumeMounts=12:[VolumeMountStatus@mountPath] user=13:any
  allocatedResourcesStatus=14:any
ContainerState: waiting=1:ContainerStateWaiting running=2:ContainerStateRunning
  terminated=3:ContainerStateTerminated
ContainerStateWaiting: reason=1:str message=2:str
ContainerStateRunning: startedAt=1:time
ContainerStateTerminated: exitCode=1:int signal=2:int reason=3:str message=4:str startedAt=5:time finishedAt=6:time
  containerID=7:str
VolumeMountStatus: name=1:str mountPath=2:str readOnly=3:bool recursiveReadOnly=4:str?
Affinity: nodeAffinity=1:NodeAffinity podAffinity=2:PodAffinity podAntiAffinity=3:PodAffinity
NodeAffinity: requiredDuringSchedulingIgnoredDuringExecution=1:NodeSelector
  preferredDuringSchedulingIgnoredDuringExecution=2:[PreferredSchedulingTerm]
NodeSelector!: nodeSelectorTerms=1:[NodeSelectorTerm]
NodeSelectorTerm!: matchExpressions=1:[NodeSelectorRequirement] matchFields=2:[NodeSelectorRequirement]
NodeSelectorRequirement: key=1:str operator=2:str values=3:[str]
PreferredSchedulingTerm: weight=1:int preference=2:NodeSelectorTerm
PodAffinity: requiredDuringSchedulingIgnoredDuringExecution=1:[PodAffinityTerm]
  preferredDuringSchedulingIgnoredDuringExecution=2:[WeightedPodAffinityTerm]
PodAffinityTerm: labelSelector=1:LabelSelector namespaces=2:[str] topologyKey=3:str
  namespaceSelector=4:LabelSelector matchLabelKeys=5:[str] mismatchLabelKeys=6:[str]
WeightedPodAffinityTerm: weight=1:int podAffinityTerm=2:PodAffinityTerm
Toleration: key=1:str operator=2:str value=3:str effect=4:str tolerationSeconds=5:int?
TopologySpreadConstraint: maxSkew=1:int topologyKey=2:str whenUnsatisfiable=3:str labelSelector=4:LabelSelector
  minDomains=5:int? nodeAffinityPolicy=6:str? nodeTaintsPolicy=7:str? matchLabelKeys=8:[str]
Volume: name=1:str ~=2:VolumeSource
VolumeSource: hostPath=1:HostPathVolumeSource emptyDir=2:EmptyDirVolumeSource gcePersistentDisk=3:any
  awsElasticBlockStore=4:any gitRepo=5:any secret=6:SecretVolumeSource nfs=7:NFSVolumeSource iscsi=8:any
  glusterfs=9:any persistentVolumeClaim=10:PersistentVolumeClaimVolumeSource rbd=11:any flexVolume=12:any
  cinder=13:any cephfs=14:any flocker=15:any downwardAPI=16:DownwardAPIVolumeSource fc=17:any azureFile=18:any
  configMap=19:ConfigMapVolumeSource vsphereVolume=20:any quobyte=21:any azureDisk=22:any
  photonPersistentDisk=23:any portworxVolume=24:any scaleIO=25:any projected=26:ProjectedVolumeSource
  storageos=27:any csi=28:CSIVolumeSource ephemeral=29:any image=30:ImageVolumeSource
HostPathVolumeSource: path=1:str type=2:str?
EmptyDirVolumeSource: medium=1:str sizeLimit=2:qty
SecretVolumeSource: secretName=1:str items=2:[KeyToPath] defaultMode=3:int? optional=4:bool?
NFSVolumeSource: server=1:str path=2:str readOnly=3:bool
PersistentVolumeClaimVolumeSource: claimName=1:str readOnly=2:bool
DownwardAPIVolumeSource: items=1:[DownwardAPIVolumeFile] defaultMode=2:int?
DownwardAPIVolumeFile: path=1:str fieldRef=2:ObjectFieldSelector resourceFieldRef=3:ResourceFieldSelector
  mode=4:int?
ConfigMapVolumeSource: ~=1:LocalObjectReference items=2:[KeyToPath] defaultMode=3:int? optional=4:bool?
KeyToPath: key=1:str path=2:str mode=3:int?
ProjectedVolumeSource: sources=1:[VolumeProjection] defaultMode=2:int?
VolumeProjection: secret=1:KeyedProjection downwardAPI=2:DownwardAPIVolumeSource configMap=3:KeyedProjection
  serviceAccountToken=4:ServiceAccountTokenProjection clusterTrustBundle=5:any
KeyedProjection: ~=1:LocalObjectReference items=2:[KeyToPath] optional=4:bool?
ServiceAccountTokenProjection: audience=1:str expirationSeconds=2:int? path=3:str
CSIVolumeSource: driver=1:str readOnly=2:bool? fsType=3:str? volumeAttributes=4:{str}
  nodePublishSecretRef=5:LocalObjectReference
ImageVolumeSource: reference=1:str pullPolicy=2:str
"""
