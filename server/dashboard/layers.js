// Puts what depends on each other into layers: whatever one needs is in an earlier layer than itself.

/**
 * Gives `{ layers, alone }`: names in layers, those that are needed first, and names without any edge.
 *
 * `nodes` are `{ name, depends_on }`; needs that are not among them are left out. Within a layer each is near those it
 * needs, so that lines cross little.
 */
export function layered(nodes) {
  const names = new Set(nodes.map((node) => node.name));
  const needs = new Map(nodes.map((node) => [node.name, node.depends_on.filter((need) => names.has(need) && need !== node.name)]));
  const needed = new Set([...needs.values()].flat());
  const depths = new Map();
  const depth = (name, above = new Set()) => {
    if (depths.has(name)) return depths.get(name);
    if (above.has(name)) return 0; // A circle, which ToolScore does not let in.
    above.add(name);
    const found = Math.max(-1, ...needs.get(name).map((need) => depth(need, above))) + 1;
    above.delete(name);
    depths.set(name, found);
    return found;
  };
  const layers = [];
  const alone = [];
  for (const name of [...names].sort()) {
    if (!needs.get(name).length && !needed.has(name)) alone.push(name);
    else (layers[depth(name)] ??= []).push(name);
  }
  for (let at = 1; at < layers.length; at += 1) {
    const places = new Map(layers.slice(0, at).flatMap((layer) => layer.map((name, index) => [name, index / layer.length])));
    const middle = (name) => {
      const found = needs.get(name).filter((need) => places.has(need));
      return found.reduce((sum, need) => sum + places.get(need), 0) / (found.length || 1);
    };
    layers[at].sort((one, other) => middle(one) - middle(other) || one.localeCompare(other));
  }
  return { layers, alone, needs };
}
