// What TensorBoard tells a tab, in the words of its (experimental) plugin API: JSON through a
// message channel that the tab hands to the page around it. Its list of runs is that of all runs
// and says nothing of the ones a user has selected, so only the reload button is listened to.

const RELOADED = "experimental.DataReloaded";

// Calls `action` whenever TensorBoard has loaded its data again.
export function onReload(action) {
  if (window.parent === window) return;
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.isReply) return;
    port1.postMessage(JSON.stringify({ ...message, payload: null, error: null, isReply: true }));
    if (message.type === RELOADED) action();
  };
  window.parent.postMessage("experimental.bootstrap", window.location.origin, [port2]);
}
