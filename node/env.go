package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubectl/pkg/util/fieldpath"
	"k8s.io/kubectl/pkg/util/resource"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// sources is what a container's environment is made of. A Pod's ConfigMaps and Secrets are in its own namespace.
type sources struct {
	Pod         *corev1.Pod
	PodIP       string
	HostIPs     []string
	Allocatable corev1.ResourceList // what stands in for a limit that is not set
	ConfigMaps  map[string]*corev1.ConfigMap
	Secrets     map[string]*corev1.Secret
	Services    []*corev1.Service // that the container is told of
}

func (s *sources) take(config *link.ConfigResponse) {
	s.ConfigMaps, s.Secrets = map[string]*corev1.ConfigMap{}, map[string]*corev1.Secret{}
	if config == nil {
		return
	}
	for i := range config.ConfigMaps {
		s.ConfigMaps[config.ConfigMaps[i].Name] = &config.ConfigMaps[i]
	}
	for i := range config.Secrets {
		s.Secrets[config.Secrets[i].Name] = &config.Secrets[i]
	}
}

// environment resolves a container's env and envFrom as Kubernetes does, in a fixed order: envFrom's names sorted, then
// env as declared, then what tells of Services and is not declared otherwise. Its errors name what is missing and never carry a value.
func environment(c *corev1.Container, s sources) ([]string, error) {
	values := map[string]string{}
	for i := range c.EnvFrom {
		if err := s.all(&c.EnvFrom[i], values); err != nil {
			return nil, err
		}
	}
	order := slices.Sorted(maps.Keys(values))
	links := linkVariables(s.Services)
	declared, err := s.declare(c, values, links)
	if err != nil {
		return nil, err
	}
	order = append(order, declared...)
	for _, l := range links {
		if _, declared := values[l.name]; !declared {
			order = append(order, l.name)
			values[l.name] = l.value
		}
	}
	env := make([]string, 0, len(order))
	for _, name := range order {
		env = append(env, name+"="+values[name])
	}
	return env, nil
}

// declare takes in a container's env, and returns the names that values did not have before. A value may refer to those before
// it and to links.
func (s *sources) declare(c *corev1.Container, values map[string]string, links []variable) (added []string, err error) {
	lookup := func(name string) (string, bool) {
		if v, ok := values[name]; ok {
			return v, true
		}
		i := slices.IndexFunc(links, func(l variable) bool { return l.name == name })
		if i < 0 {
			return "", false
		}
		return links[i].value, true
	}
	for i := range c.Env {
		e := &c.Env[i]
		value, found := runtime.Expand(e.Value, lookup), true
		if e.Value == "" && e.ValueFrom != nil {
			if value, found, err = s.one(c, e); err != nil {
				return nil, err
			}
		}
		if !found {
			continue
		}
		if _, again := values[e.Name]; !again {
			added = append(added, e.Name)
		}
		values[e.Name] = value
	}
	return added, nil
}

// all takes in a whole ConfigMap or Secret.
func (s *sources) all(from *corev1.EnvFromSource, into map[string]string) error {
	if ref := from.ConfigMapRef; ref != nil {
		cm, err := s.configMap(ref.Name, ref.Optional)
		if cm == nil {
			return err
		}
		for key, value := range cm.Data {
			into[from.Prefix+key] = value
		}
	}
	if ref := from.SecretRef; ref != nil {
		secret, err := s.secret(ref.Name, ref.Optional)
		if secret == nil {
			return err
		}
		for key, value := range secret.Data {
			into[from.Prefix+key] = string(value)
		}
	}
	return nil
}

// one resolves a valueFrom; found is false for something optional that does not exist.
func (s *sources) one(c *corev1.Container, e *corev1.EnvVar) (value string, found bool, err error) {
	switch from := e.ValueFrom; {
	case from.FieldRef != nil:
		value, err = s.field(from.FieldRef.FieldPath)
		return value, err == nil, err
	case from.ResourceFieldRef != nil:
		value, err = s.resource(c, from.ResourceFieldRef)
		return value, err == nil, err
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		cm, err := s.configMap(ref.Name, ref.Optional)
		if cm == nil {
			return "", false, err
		}
		if value, found = cm.Data[ref.Key]; !found && !isTrue(ref.Optional) {
			err = s.noKey("ConfigMap", ref.Name, ref.Key)
		}
		return value, found, err
	case from.SecretKeyRef != nil:
		ref := from.SecretKeyRef
		secret, err := s.secret(ref.Name, ref.Optional)
		if secret == nil {
			return "", false, err
		}
		raw, found := secret.Data[ref.Key]
		if !found && !isTrue(ref.Optional) {
			err = s.noKey("Secret", ref.Name, ref.Key)
		}
		return string(raw), found, err
	default:
		return "", false, fmt.Errorf("environment variable %s has a source that is not supported", e.Name)
	}
}

func isTrue(b *bool) bool { return b != nil && *b }

func (s *sources) noKey(kind, name, key string) error {
	return fmt.Errorf("couldn't find key %s in %s %s/%s", key, kind, s.Pod.Namespace, name)
}

// configMap returns nil and no error for an optional one that does not exist.
func (s *sources) configMap(name string, optional *bool) (*corev1.ConfigMap, error) {
	if cm := s.ConfigMaps[name]; cm != nil || isTrue(optional) {
		return cm, nil
	}
	return nil, fmt.Errorf("configmap %q not found", name)
}

func (s *sources) secret(name string, optional *bool) (*corev1.Secret, error) {
	if secret := s.Secrets[name]; secret != nil || isTrue(optional) {
		return secret, nil
	}
	return nil, fmt.Errorf("secret %q not found", name)
}

func (s *sources) field(path string) (string, error) {
	switch path {
	case "spec.nodeName":
		return s.Pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return s.Pod.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return s.PodIP, nil
	case "status.hostIP":
		return strings.Join(s.HostIPs[:min(1, len(s.HostIPs))], ""), nil
	case "status.hostIPs":
		return strings.Join(s.HostIPs, ","), nil
	}
	return fieldpath.ExtractFieldPathAsString(s.Pod, path)
}

// resource reads a request or limit; a limit that is not set is what the node has.
func (s *sources) resource(c *corev1.Container, ref *corev1.ResourceFieldSelector) (string, error) {
	if ref.ContainerName != "" {
		for other := range containers(s.Pod) {
			if other.Name == ref.ContainerName {
				c = other
			}
		}
	}
	c = c.DeepCopy()
	if c.Resources.Limits == nil {
		c.Resources.Limits = corev1.ResourceList{}
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		if _, set := c.Resources.Limits[name]; !set {
			if has, ok := s.Allocatable[name]; ok {
				c.Resources.Limits[name] = has
			}
		}
	}
	return resource.ExtractContainerResourceValue(ref, c)
}

// needsConfig reports whether the container refers to any ConfigMap or Secret.
func needsConfig(c *corev1.Container) bool {
	return len(c.EnvFrom) > 0 || slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
		return e.ValueFrom != nil && (e.ValueFrom.ConfigMapKeyRef != nil || e.ValueFrom.SecretKeyRef != nil)
	})
}
