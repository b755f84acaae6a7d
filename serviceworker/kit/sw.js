//! Belfry's service worker, https://github.com/belfry-push/belfry/blob/main/serviceworker/sw.js
(()=>{"use strict";async function showPush(scope,data){const{id,title,options}=read(scope,data);id&&await seen(scope,id)&&
(options.silent=!0,options.renotify=!1),await show(scope,title,options),id&&await remember(scope,id)}function read(scope,data){
const n=object(object(parse(data)).notification),own=object(n.data),mark=object(own.belfry),id=text(mark.id).slice(0,64),
title=text(n.title).trim(),{buttons,targets}=readActions(scope,n.actions),options={tag:text(n.tag)||id||`belfry-${Date.now()}\
-${Math.random()}`,data:{...own,belfry:{id,channel:text(mark.channel),navigate:text(n.navigate),actions:targets}}},body=text(
n.body)||(title?"":"You have a new message.");return body&&(options.body=body),text(n.lang)&&(options.lang=text(n.lang)),
(n.dir==="auto"||n.dir==="ltr"||n.dir==="rtl")&&(options.dir=n.dir),picture(scope,n.icon)&&(options.icon=picture(scope,n.
icon)),picture(scope,n.image)&&(options.image=picture(scope,n.image)),n.silent===!0&&(options.silent=!0),n.requireInteraction===
!0&&(options.requireInteraction=!0),n.renotify===!0&&text(n.tag)&&(options.renotify=!0),buttons.length>0&&(options.actions=
buttons),{id,title:title||scope.location.hostname,options}}function readActions(scope,list){const room=Number(scope.Notification?.
maxActions)||0,buttons=[],targets=[];for(const item of Array.isArray(list)?list:[]){const action=text(object(item).action),
title=text(object(item).title);!action||!title||buttons.length>=room||(buttons.push({action,title}),targets.push([action,
text(object(item).navigate)]))}return{buttons,targets:Object.fromEntries(targets)}}async function show(scope,title,options){
const{body,tag,data,silent}=options,tries=[[options,2e3],[{body,tag,data,silent},1e3]];for(const[choice,limit]of tries)try{
const shown=scope.registration.showNotification(title,choice).then(()=>!0);if(await within(limit,shown,!1))return}catch{}}
async function seen(scope,id){try{const list=await within(1e3,load(scope.indexedDB,"seen"),null);return fresh(list).some(
([known])=>known===id)}catch{return!1}}async function remember(scope,id){const work=change(scope.indexedDB,"seen",list=>noted(
list,id));await within(500,work.catch(()=>{}),void 0)}async function openTarget(scope,notification,action){notification.
close();const mark=object(object(notification.data).belfry),targets=object(mark.actions),url=site(scope,action&&Object.hasOwn(
targets,action)?targets[action]:mark.navigate);await reuse(scope,url)||await scope.clients.openWindow(url)}async function reuse(scope,url){
try{const exact=(await scope.clients.matchAll({type:"window",includeUncontrolled:!0})).find(open=>open.url===url);if(exact)
return!!await exact.focus();const[ours]=await scope.clients.matchAll({type:"window"});return ours?(await ours.focus(),!!await ours.
navigate(url)):!1}catch{return!1}}function site(scope,raw){const root=`${scope.location.origin}/`;try{const url=new URL(
text(raw),root);return url.origin===scope.location.origin&&url.protocol===scope.location.protocol&&!url.username&&!url.password?
url.href:root}catch{return root}}function picture(scope,raw){try{const url=new URL(text(raw));return url.protocol==="htt\
ps:"||url.protocol==="http:"&&url.origin===scope.location.origin?url.href:""}catch{return""}}async function heal(scope,given=null){
const mend=async()=>{const device=await load(scope.indexedDB,"device");if(device)try{if(await within(2e4,renew(scope,device,
given).then(()=>!0),!1))return;throw new Error("too slow")}catch{await change(scope.indexedDB,"device",now=>now&&{...now,
stale:!0}),await scope.registration.sync?.register("belfry")}};await alone(scope.navigator,mend).catch(()=>{})}async function renew(scope,device,given){
const config=await(await scope.fetch(`${device.server}/v1/config`,{cache:"no-store",credentials:"omit",redirect:"error"})).
json(),key=octets(config.vapidPublicKey),manager=scope.registration.pushManager;let subscription=given??await manager.getSubscription();
subscription&&!sameKey(subscription,key)&&(await subscription.unsubscribe(),subscription=null),subscription??=await manager.
subscribe({userVisibleOnly:!0,applicationServerKey:key});const answer=await scope.fetch(`${device.server}/v1/subscriptio\
ns/${device.id}`,{method:"PUT",credentials:"omit",redirect:"error",headers:{"Content-Type":"application/json",Authorization:`\
Device ${device.secret}`},body:JSON.stringify({subscription,keyId:config.keyId})});if(!answer.ok)throw new Error(`the se\
rver answered ${answer.status}`);const hash=await digest(subscription.endpoint);await change(scope.indexedDB,"device",now=>now&&
{...now,hash,keyId:config.keyId,stale:!1})}function parse(data){try{return data?.json()}catch{return null}}function object(value){
return typeof value=="object"&&value!==null?value:{}}function text(value){return typeof value=="string"?value:""}function storage(factory,mode,work){
return new Promise((resolve,reject)=>{const opening=factory.open("belfry",1);opening.onupgradeneeded=()=>opening.result.
createObjectStore("kit"),opening.onerror=()=>reject(opening.error),opening.onsuccess=()=>{const db=opening.result;try{let result;
const tx=db.transaction("kit",mode);tx.oncomplete=()=>resolve(result),tx.onabort=()=>reject(tx.error),work(tx.objectStore(
"kit"),value=>{result=value})}catch(err){reject(err)}finally{db.close()}}})}async function load(factory,name){return storage(
factory,"readonly",(store,give)=>{const got=store.get(name);got.onsuccess=()=>give(got.result)})}async function change(factory,name,edit){
await storage(factory,"readwrite",store=>{const got=store.get(name);got.onsuccess=()=>{const value=edit(got.result);value===
void 0?store.delete(name):store.put(value,name)}})}function noted(list,id){return[...fresh(list).filter(([known])=>known!==
id),[id,Date.now()]].slice(-2e3)}function fresh(list){const since=Date.now()-6048e5;return Array.isArray(list)?list.filter(
entry=>Array.isArray(entry)&&entry[1]>since):[]}function within(ms,work,late){let timer;const limit=new Promise(resolve=>{
timer=setTimeout(resolve,ms,late)});return Promise.race([work,limit]).finally(()=>clearTimeout(timer))}async function alone(navigator,work){
const patience=new AbortController,timer=setTimeout(()=>patience.abort(),1e4);let begun=!1;const begin=()=>(begun=!0,clearTimeout(
timer),work());try{if(navigator.locks)return await navigator.locks.request("belfry",{signal:patience.signal},begin)}catch(err){
if(begun)throw err}return begin()}async function digest(endpoint){const sum=await crypto.subtle.digest("SHA-256",new TextEncoder().
encode(endpoint));return btoa(String.fromCharCode(...new Uint8Array(sum)))}function octets(base64url){const binary=atob(
base64url.replaceAll("-","+").replaceAll("_","/"));return Uint8Array.from(binary,c=>c.charCodeAt(0))}function sameKey(subscription,key){
const made=subscription.options?.applicationServerKey;return!made||made.byteLength!==key.byteLength?!1:new Uint8Array(made).
every((octet,i)=>octet===key[i])}const worker=self;worker.addEventListener("install",event=>event.waitUntil(worker.skipWaiting())),
worker.addEventListener("activate",event=>event.waitUntil(worker.clients.claim())),worker.addEventListener("push",event=>event.
waitUntil(showPush(worker,event.data))),worker.addEventListener("notificationclick",event=>event.waitUntil(openTarget(worker,
event.notification,event.action))),worker.addEventListener("pushsubscriptionchange",event=>event.waitUntil(heal(worker,event.
newSubscription))),worker.addEventListener("sync",event=>event.tag==="belfry"&&event.waitUntil(heal(worker)))})();
