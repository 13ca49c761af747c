package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mainstay-cluster/mainstay/object"
)

// logsOptions are what `logs` was asked for.
type logsOptions struct {
	connection
	container  string
	selector   string
	every      bool // container of a Pod
	follow     bool
	previous   bool
	timestamps bool
	tail       int64
	since      time.Duration
}

func logsCommand() *cobra.Command {
	o := &logsOptions{}
	cmd := &cobra.Command{
		Use:     "logs POD | KIND/NAME | -l SELECTOR",
		GroupID: GroupCluster,
		Short:   "Print what a container writes",
		Long: `Prints what a container of a Pod wrote to its standard output and error.

With deployment/NAME, replicaset/NAME or service/NAME one of its Pods is chosen: one that is Ready, if there is any. Without
--container the Pod's first container is shown, or the one its annotation kubectl.kubernetes.io/default-container names.

With --selector or --all-containers several logs may be printed: one after the other or, with --follow, line by line as they
come. Then each line begins with its Pod and container.`,
		Example: `  mainstay logs web-7d4b9c-x2x5p
  mainstay logs deploy/web -f --tail 20
  mainstay logs web-7d4b9c-x2x5p -c sidecar --since 10m
  mainstay logs -l app=web --all-containers -f
  mainstay logs web-7d4b9c-x2x5p --previous     # of the container before its last restart`,
		Args: o.checkArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.addFlags(cmd)
	o.addNamespace(cmd)
	f := cmd.Flags()
	f.StringVarP(&o.container, "container", "c", "", "container or init container of the Pod")
	f.StringVarP(&o.selector, "selector", "l", "", "of all Pods whose labels match, such as app=web")
	f.BoolVar(&o.every, "all-containers", false, "of all containers of the Pod, init containers among them")
	f.BoolVarP(&o.follow, "follow", "f", false, "keep printing what the container writes")
	f.BoolVarP(&o.previous, "previous", "p", false, "of the container before its last restart")
	f.BoolVar(&o.timestamps, "timestamps", false, "the time in front of each line")
	f.Int64Var(&o.tail, "tail", -1, "only the last `N` lines; -1 is all")
	f.DurationVar(&o.since, "since", 0, "only what was written in the last `TIME`, such as 10m")
	return cmd
}

func (o *logsOptions) checkArgs(cmd *cobra.Command, args []string) error {
	_, wrong := labels.Parse(o.selector)
	switch {
	case o.selector == "" && len(args) != 1:
		return usageError(cmd, errors.New("say which Pod: `mainstay logs POD`, or KIND/NAME such as deployment/web"))
	case o.selector != "" && len(args) > 0:
		return usageError(cmd, errors.New("give either a Pod or --selector"))
	case wrong != nil:
		return fmt.Errorf("--selector %q: %w", o.selector, wrong)
	case o.every && o.container != "":
		return errors.New("give either --container or --all-containers")
	case o.tail < -1 || o.since < 0:
		return errors.New("--tail and --since cannot be negative")
	}
	return nil
}

func (o *logsOptions) run(cmd *cobra.Command, args []string) error {
	c, err := o.connection.open()
	if err != nil {
		return err
	}
	pods, err := o.pods(cmd.Context(), c, args)
	if err != nil {
		return err
	}
	sources, err := o.sources(cmd.ErrOrStderr(), pods)
	if err != nil {
		return err
	}
	if len(sources) == 1 {
		return o.stream(cmd.Context(), c, sources[0], cmd.OutOrStdout())
	}
	return o.streamAll(cmd.Context(), c, sources, cmd.OutOrStdout())
}

// stream copies one log to w, until its end or that of ctx.
func (o *logsOptions) stream(ctx context.Context, c *client, from source, w io.Writer) error {
	r := request{path: pathOf(object.KindFor[*corev1.Pod](), from.pod.Namespace, from.pod.Name) + "/log", query: o.query(from.container), accept: "*/*"}
	body, err := c.open(ctx, r)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("the log of %s broke off: %w", from.pod.Name, c.explain(ctx, err))
	}
	return nil
}

func (o *logsOptions) query(container string) url.Values {
	q := url.Values{"container": {container}}
	for name, on := range map[string]bool{"follow": o.follow, "previous": o.previous, "timestamps": o.timestamps} {
		if on {
			q.Set(name, "true")
		}
	}
	if o.tail >= 0 {
		q.Set("tailLines", strconv.FormatInt(o.tail, 10))
	}
	if o.since > 0 { // the API counts whole seconds
		q.Set("sinceSeconds", strconv.FormatInt(int64((o.since+time.Second-1)/time.Second), 10))
	}
	return q
}

// choose picks the container, and says which if the Pod has several and none was named.
func (o *logsOptions) choose(w io.Writer, pod *corev1.Pod) (string, error) {
	names := containerNames(pod)
	if o.container != "" {
		if !slices.Contains(names, o.container) {
			return "", no("pod %q has no container %q; it has %s", pod.Name, o.container, strings.Join(names, ", "))
		}
		return o.container, nil
	}
	if name := pod.Annotations["kubectl.kubernetes.io/default-container"]; slices.Contains(names, name) {
		return name, nil
	}
	if len(pod.Spec.Containers) == 0 {
		return "", no("pod %q has no containers", pod.Name)
	}
	name := pod.Spec.Containers[0].Name
	if len(pod.Spec.Containers) > 1 {
		fmt.Fprintf(w, "Container %s of %s; the others are given by -c.\n", name, strings.Join(names, ", "))
	}
	return name, nil
}

func containerNames(pod *corev1.Pod) []string {
	var names []string
	for _, c := range pod.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		names = append(names, c.Name)
	}
	return names
}

// findPod finds the Pod that arg means: a name, pod/NAME, or something that selects Pods.
func findPod(ctx context.Context, c *client, arg string) (*corev1.Pod, error) {
	if !strings.Contains(arg, "/") {
		arg = "pod/" + arg
	}
	t, err := parseSlash(arg)
	if err != nil {
		return nil, err
	}
	name := t.names[0]
	if t.kind.Kind == "Pod" {
		pod, err := one[*corev1.Pod](ctx, c, c.namespace, name)
		if isNotFound(err) {
			return nil, no("%s", notFound(t.kind, c.namespace, name))
		}
		return pod, err
	}
	selector, err := selectorOf(ctx, c, t.kind, name)
	if isNotFound(err) {
		return nil, no("%s", notFound(t.kind, c.namespace, name))
	}
	if err != nil {
		return nil, err
	}
	pods, _, err := list[*corev1.Pod](ctx, c, c.namespace, url.Values{"labelSelector": {selector.String()}})
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, no("%s %q has no Pods now", strings.ToLower(t.kind.Kind), name)
	}
	return slices.MinFunc(pods, byUsefulness), nil
}

// selectorOf is what selects the Pods of an object: its spec.selector, which Services have as plain labels.
func selectorOf(ctx context.Context, c *client, k object.Kind, name string) (labels.Selector, error) {
	var obj struct {
		Spec struct {
			Selector json.RawMessage `json:"selector"`
		} `json:"spec"`
	}
	if err := c.get(ctx, request{path: pathOf(k, c.namespace, name)}, &obj); err != nil {
		return nil, err
	}
	if len(obj.Spec.Selector) == 0 {
		return nil, no("%s %q selects no Pods; name a pod, deployment, replicaset or service", strings.ToLower(k.Kind), name)
	}
	var plain map[string]string
	if json.Unmarshal(obj.Spec.Selector, &plain) == nil {
		return labels.SelectorFromSet(plain), nil
	}
	var selector metav1.LabelSelector
	if err := json.Unmarshal(obj.Spec.Selector, &selector); err != nil {
		return nil, fmt.Errorf("read the selector of %s %s: %w", k.Kind, name, err)
	}
	return metav1.LabelSelectorAsSelector(&selector)
}

// byUsefulness puts Ready Pods first, then running ones, then the newest.
func byUsefulness(a, b *corev1.Pod) int {
	rank := func(p *corev1.Pod) int {
		switch {
		case p.DeletionTimestamp != nil:
			return 3
		case podReady(p):
			return 0
		case p.Status.Phase == corev1.PodRunning:
			return 1
		}
		return 2
	}
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	return b.CreationTimestamp.Compare(a.CreationTimestamp.Time)
}

func podReady(p *corev1.Pod) bool {
	for _, cond := range p.Status.Conditions {
		if cond.Type == corev1.PodReady {
			return cond.Status == corev1.ConditionTrue
		}
	}
	return false
}
