package suite

// cases are named as in Kubernetes' suite; those at the end are Mainstay's own.
var cases = []written{
	{name: "no policy"},
	{name: "should support a 'default-deny-ingress' policy", policies: `x/deny: {podSelector: {}, policyTypes: [Ingress]}`},
	{name: "should support a 'default-deny-all' policy", policies: `x/deny: {podSelector: {}, policyTypes: [Ingress, Egress]}`},
	{name: "should enforce policy to allow traffic from pods within server namespace based on PodSelector",
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}]}`},
	{name: "should enforce policy to allow ingress traffic for a target", policies: `
x/deny: {podSelector: {}, policyTypes: [Ingress]}
x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {}}]}]}`},
	{name: "should enforce policy to allow ingress traffic from pods in all namespaces",
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {}, podSelector: {}}]}]}`},
	{name: "should enforce policy to allow traffic only from a different namespace, based on NamespaceSelector",
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}]}]}`},
	{name: "should enforce policy based on PodSelector with MatchExpressions",
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchExpressions: [{key: pod, operator: In, values: [b]}]}}]}]}`},
	{name: "should enforce policy based on NamespaceSelector with MatchExpressions",
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: In, values: ["y"]}]}}]}]}`},
	{name: "should enforce policy based on PodSelector or NamespaceSelector", policies: `
x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [
  {namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x]}]}}, {podSelector: {matchLabels: {pod: b}}}]}]}`},
	{name: "should enforce policy based on PodSelector and NamespaceSelector", policies: `
x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [
  {namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x]}]}, podSelector: {matchLabels: {pod: b}}}]}]}`},
	{name: "should enforce policy based on Multiple PodSelectors and NamespaceSelectors", policies: `
x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x]}]},
  podSelector: {matchExpressions: [{key: pod, operator: In, values: [b, c]}]}}]}]}`},
	{name: "should enforce policy based on any PodSelectors", policies: `
x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}, {podSelector: {matchLabels: {pod: c}}}]}]}`},
	{name: "should enforce policy to allow traffic only from a pod in a different namespace based on PodSelector and NamespaceSelector",
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}, podSelector: {matchLabels: {pod: a}}}]}]}`},
	{name: "should enforce policy based on Ports",
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}], ports: [{port: 81}]}]}`},
	{name: "should enforce multiple, stacked policies with overlapping podSelectors", policies: `
x/p81: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}], ports: [{port: 81}]}]}
x/p80: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}], ports: [{port: 80}]}]}`},
	{name: "should support allow-all policy", policies: `x/allow: {podSelector: {}, ingress: [{}]}`},
	{name: "should allow ingress access on one named port", policies: `x/p: {podSelector: {}, ingress: [{ports: [{port: serve-81-tcp}]}]}`},
	{name: "should allow ingress access from namespace on one named port",
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}], ports: [{port: serve-80-tcp}]}]}`},
	{name: "should allow egress access on one named port", policies: `x/p: {podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: serve-80-tcp}]}]}`},
	{name: "should enforce updated policy", policies: `x/p: {podSelector: {}, ingress: [{ports: [{port: 81}]}]}`},
	{name: "should allow ingress access from updated namespace", labels: map[string]string{"y": "team=front"},
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: front}}}]}]}`},
	{name: "should allow ingress access from updated pod", labels: map[string]string{"x/b": "role=client"},
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {role: client}}}]}]}`},
	{name: "should deny ingress from pods on other namespaces", policies: `x/p: {podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}`},
	{name: "should deny ingress access to updated pod", labels: map[string]string{"x/a": "target=isolated"},
		policies: `x/p: {podSelector: {matchLabels: {target: isolated}}, policyTypes: [Ingress]}`},
	{name: "should deny egress from pods based on PodSelector", policies: `x/p: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress]}`},
	{name: "should deny egress from all pods in a namespace", policies: `x/p: {podSelector: {}, policyTypes: [Egress]}`},
	{name: "should work with Ingress, Egress specified together", policies: `
x/p: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress, Egress],
  ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}], egress: [{ports: [{port: 80}]}]}`},
	{name: "should support denying of egress traffic on the client side (even if the server explicitly allows this traffic)", policies: `
x/p: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: "y"}}, podSelector: {matchLabels: {pod: a}}}]}]}
y/a: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}, podSelector: {matchLabels: {pod: a}}}]}]}
y/b: {podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}, podSelector: {matchLabels: {pod: a}}}]}]}`},
	{name: "should enforce egress policy allowing traffic to a server in a different namespace based on PodSelector and NamespaceSelector", policies: `
x/p: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: "y"}}, podSelector: {matchLabels: {pod: a}}}]}]}`},
	{name: "should enforce ingress policy allowing any port traffic to a server on a specific protocol",
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{protocol: UDP}]}]}`},
	{name: "should enforce multiple ingress policies with ingress allow-all policy taking precedence", policies: `
x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: 80}]}]}
x/all: {podSelector: {matchLabels: {pod: a}}, ingress: [{}]}`},
	{name: "should enforce multiple egress policies with egress allow-all policy taking precedence", policies: `
x/p: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{ports: [{port: 80}]}]}
x/all: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{}]}`},
	{name: "should stop enforcing policies after they are deleted"},
	{name: "should allow egress access to server in CIDR block",
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.7.12/31}}]}]}`},
	{name: "should enforce except clause while egress access to server in CIDR block",
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.7.0/24, except: [10.244.7.12/31]}}]}]}`},
	{name: "should ensure an IP overlapping both IPBlock.CIDR and IPBlock.Except is allowed", policies: `
x/except: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.7.0/24, except: [10.244.7.12/31]}}]}]}
x/allow: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.7.13/32}}]}]}`},
	{name: "should enforce policies to check ingress and egress policies can be controlled independently based on PodSelector", policies: `
x/in: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress], ingress: [{}]}
x/out: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress]}`},
	{name: "should not mistakenly treat 'protocol: SCTP' as 'protocol: TCP', even if the plugin doesn't support SCTP",
		policies: `x/p: {podSelector: {}, ingress: [{ports: [{protocol: SCTP, port: 81}]}]}`},
	{name: "should properly isolate pods that are selected by a policy allowing SCTP, even if the plugin doesn't support SCTP",
		policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{protocol: SCTP, port: 80}]}]}`},
	{name: "should not allow access by TCP when a policy specifies only UDP", policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{protocol: UDP, port: 81}]}]}`},
	{name: "should enforce policy based on a range of ports", policies: `x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 1, endPort: 80}, {port: 79, endPort: 80}]}]}`},

	{name: "a named port that no Pod has lets nothing through", policies: `x/p: {podSelector: {}, ingress: [{ports: [{port: nowhere}]}]}`},
	{name: "a peer that no Pod is lets nothing through", policies: `x/p: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {pod: d}}}]}]}`},
	{name: "egress to named ports of every Pod and of some", policies: `
x/p: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress], egress: [
  {to: [{namespaceSelector: {}}], ports: [{port: serve-80-tcp}]}, {to: [{podSelector: {matchLabels: {pod: b}}}], ports: [{port: serve-81-udp, protocol: UDP}]}]}`},
	{name: "a named port is another number at another Pod, for ingress", swapped: "x/b", policies: `x/p: {podSelector: {}, ingress: [{ports: [{port: serve-80-tcp}]}]}`},
	{name: "a named port is another number at another Pod, for egress", swapped: "x/b",
		policies: `x/p: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}], ports: [{port: serve-80-tcp}]}]}`},
	{name: "blocks, Pods and several ports in one rule", policies: `
x/p: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.244.7.16/30, except: [10.244.7.17/32]}}, {podSelector: {matchLabels: {pod: c}}}],
  ports: [{port: 80}, {protocol: UDP, port: 80, endPort: 90}, {port: serve-81-tcp}]}]}`},
	{name: "three policies over all namespaces", policies: `
x/p: {podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {}}]}]}
y/p: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {ns: z}}}]}]}
z/p: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: "y"}}}], ports: [{port: 80}]}], egress: [{}]}`},
}
