const tabs = () => [...element.querySelectorAll('[role=tab]')];
const panels = () => [...document.querySelectorAll('[id^=panel-]')];
const tabBar = element;
let selected = location.hash.slice(1);

function show(name) {
  tabBar.dataset.open = name;
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

function select(name) {
  selected = name;
  history.replaceState(null, '', `#${name}`);
  show(name);
  trigger('click');
}

// Show the selected tab if it is in the list, otherwise the first one.
function restoreSelection() {
  const names = tabs().map((tab) => tab.dataset.tab);
  show(names.includes(selected) ? selected : names[0]);
}

element.addEventListener('click', (event) => {
  const tab = event.target.closest('[role=tab]');
  if (tab) select(tab.dataset.tab);
});
element.addEventListener('keydown', (event) => {
  const all = tabs();
  const index = all.indexOf(document.activeElement);
  const target = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: all.length - 1 }[event.key];
  if (index < 0 || target === undefined) return;
  event.preventDefault();
  const tab = all.at(target % all.length);
  select(tab.dataset.tab);
  tab.focus();
});
new MutationObserver(restoreSelection).observe(element, { childList: true, subtree: true });
restoreSelection();
