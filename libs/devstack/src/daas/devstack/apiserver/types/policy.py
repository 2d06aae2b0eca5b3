"""Types of `admissionregistration.k8s.io/v1` and `rbac.authorization.k8s.io/v1`, in the notation of `schema`."""

ADMISSION = """
MutatingWebhookConfiguration: metadata=1:ObjectMeta webhooks=2:[MutatingWebhook@name]
MutatingWebhook: name=1:str clientConfig=2:WebhookClientConfig rules=3:[RuleWithOperations] failurePolicy=4:str?
  matchPolicy=9:str? namespaceSelector=5:LabelSelector objectSelector=11:LabelSelector sideEffects=6:str?
  timeoutSeconds=7:int? admissionReviewVersions=8:[str] reinvocationPolicy=10:str?
  matchConditions=12:[MatchCondition@name]
ValidatingWebhookConfiguration: metadata=1:ObjectMeta webhooks=2:[ValidatingWebhook@name]
ValidatingWebhook: name=1:str clientConfig=2:WebhookClientConfig rules=3:[RuleWithOperations] failurePolicy=4:str?
  matchPolicy=9:str? namespaceSelector=5:LabelSelector objectSelector=10:LabelSelector sideEffects=6:str?
  timeoutSeconds=7:int? admissionReviewVersions=8:[str] matchConditions=11:[MatchCondition@name]
WebhookClientConfig: url=3:str? service=1:WebhookService caBundle=2:bytes
WebhookService: namespace=1:str name=2:str path=3:str? port=4:int?
RuleWithOperations: operations=1:[str] ~=2:Rule
Rule: apiGroups=1:[str] apiVersions=2:[str] resources=3:[str] scope=4:str?
MatchCondition: name=1:str expression=2:str
ValidatingAdmissionPolicy: metadata=1:ObjectMeta spec=2:ValidatingAdmissionPolicySpec status=3:any
ValidatingAdmissionPolicySpec: paramKind=1:any matchConstraints=2:MatchResources validations=3:[Validation]
  failurePolicy=4:str? auditAnnotations=5:[any] matchConditions=6:[MatchCondition@name] variables=7:[Variable@name]
Validation: expression=1:str message=2:str reason=3:str? messageExpression=4:str
Variable!: name=1:str expression=2:str
MatchResources!: namespaceSelector=1:LabelSelector objectSelector=2:LabelSelector
  resourceRules=3:[NamedRuleWithOperations] excludeResourceRules=4:[NamedRuleWithOperations] matchPolicy=7:str?
NamedRuleWithOperations!: resourceNames=1:[str] ~=2:RuleWithOperations
ValidatingAdmissionPolicyBinding: metadata=1:ObjectMeta spec=2:ValidatingAdmissionPolicyBindingSpec
ValidatingAdmissionPolicyBindingSpec: policyName=1:str paramRef=2:any matchResources=3:MatchResources
  validationActions=4:[str@]
"""

RBAC = """
Role: metadata=1:ObjectMeta rules=2:[PolicyRule]
ClusterRole: metadata=1:ObjectMeta rules=2:[PolicyRule] aggregationRule=3:any
PolicyRule: verbs=1:[str] apiGroups=2:[str] resources=3:[str] resourceNames=4:[str] nonResourceURLs=5:[str]
RoleBinding: metadata=1:ObjectMeta subjects=2:[Subject] roleRef=3:RoleRef
ClusterRoleBinding: metadata=1:ObjectMeta subjects=2:[Subject] roleRef=3:RoleRef
Subject!: kind=1:str apiGroup=2:str name=3:str namespace=4:str
RoleRef!: kind=2:str apiGroup=1:str name=3:str
"""
