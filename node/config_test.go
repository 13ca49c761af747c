package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/node/link"
	"github.com/mainstay-cluster/mainstay/node/runtime"
	"github.com/mainstay-cluster/mainstay/node/runtime/runtimetest"
)

// P11: what a Secret holds is in the container's environment and nowhere else.
func TestSecretsReachOnlyTheContainer(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.config = link.ConfigResponse{Secrets: []corev1.Secret{{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"key": []byte("canary")}}}}
		var env []string
		c.engine.Behave(func(cfg runtime.ContainerConfig) runtimetest.Behaviour {
			env = cfg.Env
			return runtimetest.Behaviour{}
		})
		c.server.bind(aPod("web", secretEnv), aPod("bad", secretEnv, func(p *corev1.Pod) { p.Spec.Containers[0].Env[0].ValueFrom.SecretKeyRef.Key = "nokey" }))
		c.after(3 * time.Second)
		if !slices.Equal(env, []string{"PASSWORD=canary"}) {
			t.Errorf("env = %v", env)
		}
		c.wants("uid-bad", "Pending app#0:CreateContainerConfigError")
		if got := c.server.status("uid-bad").ContainerStatuses[0].State.Waiting.Message; got != "couldn't find key nokey in Secret default/s" {
			t.Errorf("message = %q", got)
		}
		for _, e := range c.server.events {
			if strings.Contains(e.Message, "canary") {
				t.Errorf("event says %q", e.Message)
			}
		}
		if text := fmt.Sprintf("%+v", c.server.reports); strings.Contains(text, "canary") {
			t.Error("a report holds the secret")
		}
	})
}

func secretEnv(p *corev1.Pod) {
	p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "PASSWORD", ValueFrom: &corev1.EnvVarSource{
		SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}, Key: "key"},
	}}}
}

// P5: without a server a restart runs with the values last known.
func TestRestartWithoutServerKeepsTheEnvironment(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.config = link.ConfigResponse{Secrets: []corev1.Secret{{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"key": []byte("v1")}}}}
		var env []string
		c.engine.Behave(func(cfg runtime.ContainerConfig) runtimetest.Behaviour {
			env = cfg.Env
			return runtimetest.Behaviour{}
		})
		c.server.bind(aPod("web", secretEnv))
		c.settle()
		c.server.answerWith(away)
		env = nil
		c.engine.Kill(c.id("uid-web", "app"), 1)
		c.after(2 * time.Second)
		if !slices.Equal(env, []string{"PASSWORD=v1"}) {
			t.Errorf("env = %v, want that of the attempt before", env)
		}
	})
}

func TestMissingConfigAppears(t *testing.T) {
	inCluster(t, func(c *cluster) {
		c.server.bind(aPod("web", secretEnv))
		c.after(5 * time.Second)
		c.wants("uid-web", "Pending app#0:CreateContainerConfigError")
		c.server.mu.Lock()
		c.server.config = link.ConfigResponse{Secrets: []corev1.Secret{{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Data: map[string][]byte{"key": []byte("v1")}}}}
		c.server.mu.Unlock()
		c.after(10 * time.Second)
		c.wants("uid-web", "Running app#0:Ready")
	})
}
