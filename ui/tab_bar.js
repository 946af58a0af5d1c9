const tabs = () => [...element.querySelectorAll('[role=tab]')];
const panels = () => [...document.querySelectorAll('[id^=panel-]')];
const strip = element;
let wanted = location.hash.slice(1);

function show(name) {
  strip.dataset.open = name;
  for (const tab of tabs()) {
    const open = tab.dataset.tab === name;
    tab.setAttribute('aria-selected', open);
    tab.tabIndex = open ? 0 : -1;
  }
  for (const panel of panels()) {
    panel.toggleAttribute('data-shown', panel.id === `panel-${name}`);
    panel.setAttribute('role', 'tabpanel');
    panel.setAttribute('aria-labelledby', panel.id.replace('panel-', 'tab-'));
  }
}

function choose(name) {
  wanted = name;
  history.replaceState(null, '', `#${name}`);
  show(name);
  trigger('click');
}

// The tab that was open, if it is still there; else the first.
function settle() {
  const names = tabs().map((tab) => tab.dataset.tab);
  show(names.includes(wanted) ? wanted : names[0]);
}

element.addEventListener('click', (event) => {
  const tab = event.target.closest('[role=tab]');
  if (tab) choose(tab.dataset.tab);
});
element.addEventListener('keydown', (event) => {
  const all = tabs();
  const at = all.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  const next = all.at(to % all.length);
  choose(next.dataset.tab);
  next.focus();
});
new MutationObserver(settle).observe(element, { childList: true, subtree: true });
settle();
