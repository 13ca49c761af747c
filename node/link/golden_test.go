package link

import (
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var record = flag.Bool("record-messages", false, "write the golden messages if there are none; existing ones are never rewritten")

const goldenMessages = "testdata/messages1.json"

// messages are one of each kind that agents and servers send each other, and that agents keep on disk, with every field set.
func messages() map[string]any {
	meta := metav1.ObjectMeta{Namespace: "a", Name: "web", UID: "u1", ResourceVersion: "7"}
	ref := PodRef{Namespace: "a", Name: "web", UID: "u1"}
	status := corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.244.0.2"}
	pod := corev1.Pod{ObjectMeta: meta, Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "app", Image: "hello:1.0"}}}, Status: status}
	rules := []PolicyRule{{Anyone: true, EveryPod: true, Addresses: []string{"10.244.0.2"}, NoPort: true,
		Blocks: []PolicyBlock{{CIDR: "192.0.2.0/24", Except: []string{"192.0.2.8/29"}}},
		Ports:  []PolicyPort{{Protocol: corev1.ProtocolTCP, First: 80, Last: 81, Pods: []string{"10.244.0.2"}}}}}
	return map[string]any{
		"Registration":   &Registration{Cluster: "home", Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, Address: "192.0.2.1:7444", Pods: []corev1.Pod{pod}},
		"Registered":     &Registered{PodCIDR: "10.244.0.0/24", ClusterCIDR: "10.244.0.0/16", DNS: "10.96.0.10", Adopted: 1, Store: "s", Version: 6, Servers: []string{"192.0.2.9:7443"}},
		"PodsRequest":    &PodsRequest{Node: "n1", After: 7, Have: map[types.UID]string{"u1": "7"}, Pull: []string{"hello:1.0"}, Wait: metav1.Duration{Duration: 10 * time.Second}},
		"PodsResponse":   &PodsResponse{Store: "s", Version: 8, Pods: []corev1.Pod{pod}, Gone: []types.UID{"u2"}, Pull: []string{"hello:2.0"}, Servers: []string{"192.0.2.9:7443"}, Authority: "mark"},
		"Report":         &Report{Node: "n1", NodeStatus: &corev1.NodeStatus{}, Statuses: map[types.UID]PodStatus{"u1": {PodRef: ref, Status: status}}, Removed: []PodRef{ref}},
		"ConfigRequest":  &ConfigRequest{Node: "n1", Pod: ref},
		"ConfigResponse": &ConfigResponse{ConfigMaps: []corev1.ConfigMap{{ObjectMeta: meta}}, Secrets: []corev1.Secret{{ObjectMeta: meta}}},
		"Events":         &Events{Node: "n1", Events: []corev1.Event{{ObjectMeta: meta, Reason: "Started"}}},
		"JoinRequest":    &JoinRequest{Token: "mainstay1.a.b.c", Node: "n1", Request: "PEM", Cluster: "home", Server: &JoiningServer{Name: "s2", Address: "192.0.2.9:7443", Version: "v1"}},
		"Membership":     &Membership{Cluster: "home", Certificate: "PEM", Authority: "PEM", Servers: []string{"192.0.2.9:7443"}, AuthorityKey: "PEM", Repo: "r", Branch: "main", Path: "p"},
		"RenewRequest":   &RenewRequest{Request: "PEM", Keeps: "mark"},
		"NetworkRequest": &NetworkRequest{Node: "n1", Store: "s", After: 7, Wait: metav1.Duration{Duration: 10 * time.Second}},
		"NetworkResponse": &NetworkResponse{Store: "s", Version: 8, Ranges: Ranges{Pods: "10.244.0.0/16", Services: "10.96.0.0/16"}, Whole: true,
			Peers: []Peer{{Name: "n2", PodCIDR: "10.244.1.0/24", Address: "192.0.2.2"}}, Services: []corev1.Service{{ObjectMeta: meta}},
			EndpointSlices: []discoveryv1.EndpointSlice{{ObjectMeta: meta}}, Gone: []NetworkRef{{Kind: KindPeer, Namespace: "a", Name: "n3"}},
			Policies: []Policy{{Namespace: "a", Name: "deny", Pods: []string{"10.244.0.2"}, Ingress: &rules, Egress: &rules}}},
	}
}

// The messages in testdata were written once. Agents and servers of that version send them for as long as they run, and a node
// keeps its network so on disk: they mean what they meant, and what a later version adds to them is passed over.
func TestMessagesOfOlderAndNewerVersionsAreUnderstood(t *testing.T) {
	if *record {
		recordMessages(t)
	}
	raw, err := os.ReadFile(goldenMessages)
	if err != nil {
		t.Fatal(err)
	}
	var golden map[string]json.RawMessage
	if err := json.Unmarshal(raw, &golden); err != nil {
		t.Fatal(err)
	}
	for name, want := range messages() {
		t.Run(name, func(t *testing.T) {
			newer := strings.Replace(string(golden[name]), "{", `{"addedLater": {"deep": [1]},`, 1)
			for _, text := range []string{string(golden[name]), newer} {
				got := reflect.New(reflect.TypeOf(want).Elem()).Interface()
				if err := json.Unmarshal([]byte(text), got); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			}
			whole := reflect.ValueOf(want).Elem()
			for i := range whole.NumField() {
				if whole.Field(i).IsZero() {
					t.Errorf("the example leaves out %s", whole.Type().Field(i).Name)
				}
			}
		})
	}
}

func recordMessages(t *testing.T) {
	t.Helper()
	raw, err := json.MarshalIndent(messages(), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(goldenMessages, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatalf("golden messages are written once: %v", err)
	}
	defer f.Close()
	if _, err := f.Write(append(raw, '\n')); err != nil {
		t.Fatal(err)
	}
}
