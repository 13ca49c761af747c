package sched

import (
	corev1 "k8s.io/api/core/v1"
	schedulinghelper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// class is what Pods with the same selector, affinity and tolerations have in common: which nodes they may use at all,
// and how much they like each. It does not change while Pods are placed, so it is worked out once per view.
type class struct {
	nodes    []int32   // that may be used, by name
	scores   []float64 // by node
	excluded []string  // by node, why it may not be used; "" if it may
}

// Why nodes are excluded, in kube-scheduler's words; it has none for a node that is not ready, since there a taint says so.
const (
	notReady      = "node(s) were not ready"
	unschedulable = "node(s) were unschedulable"
	tainted       = "node(s) had untolerated taint(s)"
	unmatched     = "node(s) didn't match Pod's node affinity/selector"
)

// classOf finds the class of a Pod, or makes it.
func (v *View) classOf(p *corev1.Pod) *class {
	key := classKey(p)
	c, ok := v.classes[key]
	if !ok {
		c = v.newClass(p)
		v.classes[key] = c
	}
	return c
}

// classKey is equal for Pods that mean the same nodes. The parts are encoded, since they hold slices.
func classKey(p *corev1.Pod) string {
	affinity := nodeAffinity(p)
	if len(p.Spec.NodeSelector) == 0 && affinity == nil && len(p.Spec.Tolerations) == 0 {
		return ""
	}
	wanted := corev1.PodSpec{NodeSelector: p.Spec.NodeSelector, Tolerations: p.Spec.Tolerations}
	if affinity != nil {
		wanted.Affinity = &corev1.Affinity{NodeAffinity: affinity}
	}
	encoded, err := wanted.Marshal()
	if err != nil {
		panic("sched: a stored Pod cannot be encoded: " + err.Error())
	}
	return string(encoded)
}

func nodeAffinity(p *corev1.Pod) *corev1.NodeAffinity {
	if p.Spec.Affinity == nil {
		return nil
	}
	return p.Spec.Affinity.NodeAffinity
}

func (v *View) newClass(p *corev1.Pod) *class {
	c := &class{scores: make([]float64, len(v.nodes)), excluded: make([]string, len(v.nodes))}
	required := nodeaffinity.GetRequiredNodeAffinity(p)
	preferred := preferredOf(p)
	var liked, disliked []float64
	for i := range v.nodes {
		n := &v.nodes[i]
		if c.excluded[i] = n.excludes(p, required); c.excluded[i] != "" {
			continue
		}
		c.nodes = append(c.nodes, int32(i))
		likes := 0.0
		if preferred != nil {
			likes = float64(preferred.Score(n.object))
		}
		liked = append(liked, likes)
		disliked = append(disliked, n.softTaints(p))
	}
	mostLiked, mostDisliked := highest(liked), highest(disliked)
	for at, i := range c.nodes {
		c.scores[i] = weightTaints * 100
		if mostDisliked > 0 {
			c.scores[i] -= weightTaints * 100 * disliked[at] / mostDisliked
		}
		if mostLiked > 0 {
			c.scores[i] += weightAffinity * 100 * liked[at] / mostLiked
		}
	}
	return c
}

// preferredOf is nil where nothing is preferred. Terms that cannot be read were refused when the Pod was declared.
func preferredOf(p *corev1.Pod) *nodeaffinity.PreferredSchedulingTerms {
	affinity := nodeAffinity(p)
	if affinity == nil || len(affinity.PreferredDuringSchedulingIgnoredDuringExecution) == 0 {
		return nil
	}
	terms, err := nodeaffinity.NewPreferredSchedulingTerms(affinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil {
		return nil
	}
	return terms
}

func highest(values []float64) float64 {
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	return most
}

// excludes says why the Pod may not use the node, "" if it may.
func (n *node) excludes(p *corev1.Pod, required nodeaffinity.RequiredNodeAffinity) string {
	cordon := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	switch {
	case !n.ready:
		return notReady
	case n.object.Spec.Unschedulable && !tolerates(p, &cordon):
		return unschedulable
	}
	for i := range n.object.Spec.Taints {
		taint := &n.object.Spec.Taints[i]
		if taint.Effect != corev1.TaintEffectPreferNoSchedule && !tolerates(p, taint) {
			return tainted
		}
	}
	if match, err := required.Match(n.object); err != nil || !match {
		return unmatched
	}
	return ""
}

// softTaints counts the PreferNoSchedule taints that the Pod does not tolerate.
func (n *node) softTaints(p *corev1.Pod) float64 {
	count := 0.0
	for i := range n.object.Spec.Taints {
		taint := &n.object.Spec.Taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule && !tolerates(p, taint) {
			count++
		}
	}
	return count
}

func tolerates(p *corev1.Pod, taint *corev1.Taint) bool {
	return schedulinghelper.TolerationsTolerateTaint(klog.Background(), p.Spec.Tolerations, taint, false)
}
