package join

import (
	"encoding/hex"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

// A token that was handed out, and what the store has kept of it, stay good for each other whatever version looks at them.
func TestTokensOfTheFirstFormAreReadForEver(t *testing.T) {
	const text = "mainstay1.qwerty234567.abcdefgh.abcdefghijklmnopqrstuvwxyz234567"
	hash, err := hex.DecodeString("13ddedeebad8ef7ee6ce8aa9a3ceb4f91275bd2afe7c2a9b99f50adcb8ed373c")
	if err != nil {
		t.Fatal(err)
	}
	token, err := Parse(text)
	if err != nil || token.Pin != "qwerty234567" || token.ID != "abcdefgh" || token.String() != text {
		t.Fatalf("%+v, %v", token, err)
	}
	now := time.Unix(1_700_000_000, 0)
	stored := &object.JoinToken{Spec: object.JoinTokenSpec{Role: object.RoleServer, Hash: hash, Expires: metav1.NewTime(now.Add(time.Minute))}}
	if err := check(token, stored, object.RoleServer, now); err != nil {
		t.Error(err)
	}
}
